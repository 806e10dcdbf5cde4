"""A service's protocol: its document, else what its instances say."""

import pytest

from policies.context import Context, services_of
from registry.model import Mesh
from tests.unit.policies.build import HTTP, endpoint, instance, view


def speaks(protocol: str | None, instance_id: str) -> object:
    return endpoint(instance("api", instance_id=instance_id, mesh=Mesh(protocol=protocol)))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ([], None),
        ([None], "tcp"),
        (["http"], "http"),
        (["http", "http", "tcp"], "http"),
        (["http", None], "http"),
        (["http", None, None], "tcp"),
    ],
)
def test_as_most_are_registered(said: list[str | None], expected: str | None) -> None:
    endpoints = tuple(speaks(protocol, f"api-{i}") for i, protocol in enumerate(said))
    context = Context(view(endpoints={"api": endpoints}))
    assert context.known_protocol("api") == expected
    assert context.protocol("api") == (expected or "http")
    assert bool(context.problems) == (len(set(said)) > 1)


def test_a_service_without_instances_speaks_as_it_did() -> None:
    assert Context(view(spoken={"db": "tcp"})).protocol("db") == "tcp"
    assert Context(view(spoken={"db": "tcp"})).protocol("api") == "http"  # callers get an answer that names it
    told = Context(view(("service-defaults", "db", HTTP), spoken={"db": "tcp"}))
    assert told.protocol("db") == "http"


def test_the_document_wins() -> None:
    context = Context(view(("service-defaults", "*", HTTP), endpoints={"api": (speaks("tcp", "a"),)}))
    assert context.protocol("api") == "http"
    assert context.problems == set()


def test_own_instances_count_once() -> None:
    own = instance("api", mesh=Mesh(protocol="http"))
    context = Context(view(local=(own,), endpoints={"api": (endpoint(own),)}))
    assert context.known_protocol("api") == "http"
    assert context.own_protocol(own) == "http"


def test_a_protocol_that_is_not_built_is_tcp_and_a_problem() -> None:
    own = instance("api", mesh=Mesh(protocol="grpc"))
    context = Context(view(local=(own,)))
    assert context.own_protocol(own) == "tcp"
    (problem,) = context.problems
    assert "grpc" in problem.reason


def test_services_of_instances() -> None:
    assert services_of([instance("b"), instance("a"), instance("b", instance_id="b-2")]) == ("a", "b")
