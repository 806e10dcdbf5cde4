"""Endpoints of a destination: addresses, identity, weight, subsets."""

import pytest

from policies.compile import compile_host
from policies.compiled import Endpoint
from registry import model
from registry.ca import names
from tests.unit.policies.build import compiled_endpoints, endpoint, instance, view

RESOLVER = (
    "service-resolver",
    "api",
    'Subsets: {v2: {Filter: Service.Meta.version == "2"}, ok: {OnlyPassing: true}, all: {}}',
)


def test_a_meshed_endpoint() -> None:
    said = instance("api", address="2001:db8::1", weights=model.Weights(passing=3, warning=2))
    spiffe = "spiffe://mesh.local/svc/api/n/b/i/api-1"
    assert compiled_endpoints("api", endpoints={"api": (endpoint(said),)}) == (
        Endpoint(
            name="api/b/api-1",
            id="api-1",
            service="api",
            node="b",
            address="[2001:db8::1]:8080",
            inbound="10.0.0.1:15443",
            sni=names.sni(spiffe),
            spiffe=spiffe,
            weight=3,
        ),
    )


def test_one_outside_the_mesh_has_no_identity() -> None:
    (found,) = compiled_endpoints("api", endpoints={"api": (endpoint(instance("api", inbound=None)),)})
    assert (found.inbound, found.sni, found.spiffe) == (None, "", "")


@pytest.mark.parametrize(
    ("state", "health", "weight", "subsets"),
    [
        ("passing", "passing", 3, ("all", "ok")),
        ("warning", "warning", 2, ("all",)),
        ("critical", "critical", 2, ("all",)),
        ("suspect", "passing", 3, ("all", "ok")),
        ("suspect", "warning", 2, ("all",)),
        ("draining", "passing", 3, ("all", "ok")),
        ("damped", "passing", 3, ("all", "ok")),
    ],
)
def test_state_decides_on_weight_and_only_passing(
    state: model.EndpointState, health: model.Health, weight: int, subsets: tuple[str, ...]
) -> None:
    said = instance("api", weights=model.Weights(passing=3, warning=2), health=health)
    (found,) = compiled_endpoints("api", RESOLVER, endpoints={"api": (endpoint(said, state),)})
    shown = "critical" if state == "damped" else state  # the proxy need not know why
    assert (found.state, found.weight, found.subsets) == (shown, weight, subsets)


def test_filters_choose() -> None:
    said = tuple(
        endpoint(instance("api", instance_id=f"api-{version}", meta={"version": version})) for version in ("1", "2")
    )
    found = compiled_endpoints("api", RESOLVER, endpoints={"api": said})
    assert [(one.id, "v2" in one.subsets) for one in found] == [("api-1", False), ("api-2", True)]


@pytest.mark.parametrize(
    "wrong",
    [
        instance("api", address="api.example"),
        instance("api", address="169.254.169.254"),
        instance("api", port=0),
        instance("api", inbound=model.Address(address="nowhere", port=1)),
        instance("other"),
        instance("api", instance_id="a/b"),
        instance("api", node=".."),
    ],
)
def test_what_cannot_be_dialled_is_left_out_and_named(wrong: model.Instance) -> None:
    good = endpoint(instance("api", instance_id="api-9"))
    endpoints = {"api": (endpoint(wrong), good)}
    assert [found.id for found in compiled_endpoints("api", endpoints=endpoints)] == ["api-9"]
    compiled = compile_host(view(wanted=frozenset({"api"}), endpoints=endpoints))
    assert str(wrong.key) in {problem.name for problem in compiled.problems}
