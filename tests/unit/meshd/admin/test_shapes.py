"""The contract between the admin routes and `meshctl`: its table is the routes' table, its shapes survive the wire."""

import re

import msgspec

from meshd.admin import shapes
from meshd.admin.api import ROUTES


def test_the_table_of_the_docstring_is_that_of_the_routes() -> None:
    documented = re.findall(r"^ {4}(GET|POST|DELETE) +(/v1/mesh\S+)", shapes.__doc__ or "", re.M)
    assert set(documented) == {(method, path) for method, path, _, _ in ROUTES}


def test_shapes_survive_the_wire() -> None:
    row = shapes.ProblemRow(document="fault/x", reason="why", line=3, refused=False)
    token = shapes.TokenRequest(kind="join", node="b", services=("api",))
    for value in (row, token):
        assert msgspec.json.decode(msgspec.json.encode(value), type=type(value)) == value
