"""Answers: one mapping of errors to statuses, and Consul's headers."""

import json

import pytest
from aiohttp.test_utils import make_mocked_request

from registry import errors
from registry.api import answers
from registry.api.answers import Problem


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (errors.NotFound("x"), 404),
        (errors.Denied("x"), 403),
        (errors.Conflict("x"), 409),
        (errors.TooLarge("x"), 413),
        (errors.Unavailable("x"), 503),
        (errors.Corrupt("x"), 500),
    ],
)
def test_each_error_of_the_registry_has_its_status(error: errors.RegistryError, status: int) -> None:
    assert answers.from_error(error).status == status


def test_no_error_is_without_a_status() -> None:
    known = {kind for kind, _ in answers.STATUSES}
    assert known == set(errors.RegistryError.__subclasses__())


def test_a_problem_is_error_field_and_hint() -> None:
    answer = answers.problem(Problem(400, "wrong", "Port", "1 to 65535"), {"Allow": "GET"})
    assert answer.status == 400
    assert isinstance(answer.body, bytes)
    assert json.loads(answer.body) == {"error": "wrong", "field": "Port", "hint": "1 to 65535"}
    assert answer.headers["Allow"] == "GET"


def test_json_is_pretty_on_demand_and_carries_the_index() -> None:
    plain = answers.json(make_mocked_request("GET", "/"), {"a": 1}, 7)
    assert plain.body == b'{"a":1}'
    assert plain.headers["X-Consul-Index"] == "7"
    assert plain.headers["X-Consul-KnownLeader"] == "true"
    assert plain.headers["X-Consul-LastContact"] == "0"
    assert answers.json(make_mocked_request("GET", "/?pretty"), {"a": 1}).body == b'{\n    "a": 1\n}'


def test_an_index_is_never_0_which_would_mean_do_not_wait() -> None:
    assert answers.empty(0).headers["X-Consul-Index"] == "1"
    assert "X-Consul-Index" not in answers.empty().headers
