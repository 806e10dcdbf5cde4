"""Views are values: what was compiled from cannot change afterwards."""

import dataclasses

import pytest

from policies.view import Compiled
from tests.unit.policies.build import view


def test_views_are_frozen() -> None:
    host = view()
    with pytest.raises(dataclasses.FrozenInstanceError):
        host.node = "b"  # type: ignore[misc]  # what is tested
    assert Compiled(resources=()) == Compiled(resources=(), problems=())
