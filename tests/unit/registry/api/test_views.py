"""Instances and hosts in Consul's shapes."""

import pytest

from registry.api import views
from registry.api.views import Picture
from registry.model import Address, Check, CheckResult, Instance, Node

WEB = Instance(
    service="web",
    node="b",
    id="web-1",
    address="10.0.0.2",
    port=80,
    tags=("v2",),
    checks=(Check(check_id="c1", name="one", ttl=5.0, status="warning"), Check(check_id="c2", http="http://localhost")),
    results=(CheckResult(check_id="c2", status="passing", output="ok"),),
    inbound=Address(address="10.0.0.9", port=15443),
)
NODE = Node(name="a", address="fd00::1", inbound_port=15443, meta={"zone": "z1"})
PICTURE = Picture(7, "dc1", [WEB], {"a": NODE}, frozenset({"a"}))


def test_a_check_without_a_result_has_its_first_status() -> None:
    assert [(c["CheckID"], c["Status"], c["Output"], c["Type"]) for c in PICTURE.checks(WEB)] == [
        ("c1", "warning", "", "ttl"),
        ("c2", "passing", "ok", "http"),
    ]


def test_the_hosts_own_check_is_its_lease() -> None:
    assert [PICTURE.serf(name)["Status"] for name in ("a", "b")] == ["passing", "critical"]
    assert "lease" in PICTURE.serf("b")["Output"]


def test_a_host_that_has_not_joined_is_known_by_its_instances() -> None:
    assert PICTURE.names() == ["a", "b"]
    assert PICTURE.node("b")["Address"] == "10.0.0.9"
    assert PICTURE.node("a")["TaggedAddresses"] == dict.fromkeys(("lan", "lan_ipv6", "wan", "wan_ipv6"), "fd00::1")
    assert PICTURE.node("a")["Meta"]["zone"] == "z1"


def test_ids_of_hosts_are_stable_uuids() -> None:
    assert views.node_id("a") == views.node_id("a") != views.node_id("b")
    assert len(views.node_id("a")) == 36


@pytest.mark.parametrize("target", ["http", "tcp", "grpc", "ttl"])
def test_kinds_of_checks(target: str) -> None:
    value = {"check_id": "c", target: 1.0 if target == "ttl" else "x"}
    assert views.kind(Check(**value)) == target  # type: ignore[arg-type]  # one field each


@pytest.mark.parametrize(
    ("statuses", "worst"),
    [([], "passing"), (["passing", "warning"], "warning"), (["critical", "warning"], "critical"), (["odd"], "odd")],
)
def test_the_worst_status(statuses: list[str], worst: str) -> None:
    assert views.worst(statuses) == worst


def test_maintenance_is_above_all() -> None:
    checks = [*PICTURE.checks(WEB), views.maintenance(WEB)]
    assert views.aggregated(checks) == "maintenance"
    assert views.worst(check["Status"] for check in checks) == "critical"


def test_services_with_all_their_tags() -> None:
    other = Instance(service="web", node="a", id="web-2", address="10.0.0.1", port=80, tags=("v1", "v2"))
    assert views.tagged([WEB, other]) == {"web": ["v1", "v2"]}
