"""Twin of `registry/backends/consul_service.py`. Bodies are what Consul 1.8 answers, cut down."""

from typing import Any

import msgspec
import pytest

from registry import keys, values
from registry.backends import consul_service
from registry.backends.consul_service import HealthRow
from registry.errors import Corrupt, TooLarge
from registry.model import Address, Check, CheckResult, Instance, Mesh, Upstream, Weights

FULL = Instance(
    service="api",
    node="b",
    id="api-1",
    address="10.0.0.2",
    port=8080,
    tags=("v2",),
    meta={"version": "2"},
    node_meta={"rack": "7"},
    weights=Weights(passing=5, warning=2),
    mesh=Mesh(protocol="http", upstreams=(Upstream(service="db", local_bind_port=9101),), uids=(1000,)),
    checks=(Check(check_id="live", http="http://127.0.0.1:8080/", header={"X": ("ü",)}),),
    results=(CheckResult(check_id="live", status="warning", output="slow\nvery"),),
    health="warning",
    inbound=Address(address="10.0.0.2", port=15443),
)


def row(instance: Instance, *checks: dict[str, str], **service: Any) -> HealthRow:
    """As /v1/health/service shows what `instance` was registered as."""
    body = consul_service.service(instance)
    found = {"Service": body.pop("Name"), **body, **service}
    node = {"Node": instance.node, "Address": "10.9.9.9", "Meta": {"az": "eu-1"}}
    return msgspec.convert({"Node": node, "Service": found, "Checks": list(checks)}, HealthRow)


def foreign(*checks: dict[str, str], **service: Any) -> HealthRow:
    found = {"ID": "db", "Service": "db", "Port": 5432, "Address": "", **service}
    return msgspec.convert(
        {"Node": {"Node": "n1", "Address": "10.9.9.9"}, "Service": found, "Checks": checks}, HealthRow
    )


@pytest.mark.parametrize("state", ["active", "withdrawn", "maintenance"])
def test_an_instance_comes_back_as_it_was(state: str) -> None:
    wanted = msgspec.structs.replace(FULL, state=state, reason="" if state == "active" else "moving")
    assert consul_service.instance(row(wanted)) == wanted
    bare = Instance(service="api", node="b", id="x", address="10.0.0.2", port=1)
    assert consul_service.instance(row(bare)) == bare


def test_other_tools_see_name_port_tags_meta_and_one_check() -> None:
    body = consul_service.agent_body(FULL)
    assert (body["Name"], body["ID"], body["Port"], body["Tags"]) == ("api", "api-1", 8080, ["v2"])
    assert body["Meta"]["version"] == "2"
    assert body["TaggedAddresses"] == {"meshd": {"Address": "10.0.0.2", "Port": 15443}}
    assert body["Check"]["CheckID"] == "meshd:api-1"
    assert consul_service.status(FULL) == ("warning", "live: slow\nvery")
    assert "Check" not in consul_service.agent_body(msgspec.structs.replace(FULL, checks=(), results=()))


def test_agentless_a_maintenance_is_a_check_of_consuls_own_name() -> None:
    body = consul_service.catalog_body(msgspec.structs.replace(FULL, state="withdrawn"), "10.0.0.2")
    assert {check["CheckID"]: check["Status"] for check in body["Checks"]} == {
        "meshd:api-1": "warning",
        "_service_maintenance:api-1": "critical",
    }
    assert body["Checks"][1]["Notes"] == "meshd: withdrawn"
    assert (body["Node"], body["Address"], body["Service"]["Service"]) == ("b", "10.0.0.2", "api")


def test_every_value_fits_into_consuls_limits_and_long_outputs_are_cut_before_anything_is_refused() -> None:
    long = CheckResult(check_id="live", status="critical", output="x" * 40_000)
    meta = consul_service.service(msgspec.structs.replace(FULL, results=(long,)))["Meta"]
    assert len(meta) <= 64
    assert all(len(value.encode()) <= 512 for value in meta.values())
    crowded = msgspec.structs.replace(FULL, meta={f"k{n}": "v" for n in range(64)})
    with pytest.raises(TooLarge):
        consul_service.service(crowded)


def test_meshds_word_counts_and_so_does_a_check_that_somebody_added_but_not_the_nodes() -> None:
    own = {"CheckID": "meshd:api-1", "Status": "critical", "ServiceID": "api-1"}
    serf = {"CheckID": "serfHealth", "Status": "critical", "ServiceID": ""}
    found = consul_service.instance(row(FULL, own, serf))
    assert found is not None
    assert found.health == "warning"
    added = {"CheckID": "ops", "Status": "critical", "ServiceID": "api-1"}
    found = consul_service.instance(row(FULL, own, added))
    assert found is not None
    assert found.health == "critical"


@pytest.mark.parametrize("check", ["_service_maintenance:api-1", "_node_maintenance"])
def test_consuls_maintenance_mode_is_ours(check: str) -> None:
    found = consul_service.instance(row(FULL, {"CheckID": check, "Status": "critical", "Notes": "disk\nswap"}))
    assert found is not None
    assert (found.state, found.reason, found.health) == ("maintenance", "disk swap", "warning")


def test_a_withdrawal_stays_one_under_its_own_maintenance_check() -> None:
    gone = msgspec.structs.replace(FULL, state="withdrawn")
    check = {"CheckID": "_service_maintenance:api-1", "Status": "critical", "Notes": "meshd: withdrawn"}
    assert consul_service.instance(row(gone, check)) == gone


def test_a_foreign_service_joins_as_it_is_with_consuls_health() -> None:
    found = consul_service.instance(
        foreign(
            {"CheckID": "serfHealth", "Status": "passing", "ServiceID": ""},
            {"CheckID": "port", "Status": "warning", "ServiceID": "db", "Output": "slow"},
            Tags=["primary"],
            Meta={"v": "9"},
        )
    )
    assert found is not None
    assert (found.address, found.port, found.inbound) == ("10.9.9.9", 5432, None)
    assert (found.tags, found.meta, found.health) == (("primary",), {"v": "9"}, "warning")
    assert [result.check_id for result in found.results] == ["port", "serfHealth"]
    assert values.read_instance("mesh/v1/services/db/n1/db", values.write(found)) == found


def test_a_dead_node_takes_its_foreign_services_out() -> None:
    found = consul_service.instance(foreign({"CheckID": "serfHealth", "Status": "critical", "ServiceID": ""}))
    assert found is not None
    assert found.health == "critical"


@pytest.mark.parametrize("odd", [{"Kind": "connect-proxy"}, {"Service": "consul"}, {"Port": 0}])
def test_what_takes_no_requests_is_left_out(odd: dict[str, Any]) -> None:
    assert consul_service.instance(foreign(**odd)) is None


@pytest.mark.parametrize("text", ["my service", "ä", "a/b", "..", "x" * 200, ""])
def test_foreign_names_are_mapped_into_the_alphabet_and_stay_apart(text: str) -> None:
    assert keys.valid_name(consul_service.name(text))
    assert consul_service.name(text) != consul_service.name(text + "!")
    assert consul_service.name("web-1.a_B") == "web-1.a_B"


def test_metadata_that_is_not_meshds_is_named_not_believed() -> None:
    with pytest.raises(Corrupt, match="api-1 on b"):
        consul_service.instance(row(FULL, Meta={"meshd-00": '{"Mesh":'}))


def test_a_dump_of_nodes_gives_each_service_its_own_and_its_nodes_checks() -> None:
    node = msgspec.convert(
        {
            "Node": "n1",
            "Address": "10.9.9.9",
            "Services": [{"ID": "a", "Service": "a", "Port": 1}, {"ID": "b", "Service": "b", "Port": 2}],
            "Checks": [
                {"CheckID": "serfHealth", "ServiceID": ""},
                {"CheckID": "of-a", "ServiceID": "a"},
            ],
        },
        consul_service.DumpNode,
    )
    rows = consul_service.rows_of_nodes([node])
    assert [[check.CheckID for check in row.Checks or ()] for row in rows] == [["serfHealth", "of-a"], ["serfHealth"]]


AGENTS = {  # as /v1/agent/services shows a service with `connect { sidecar_service {} }`
    "db": {
        "ID": "db",
        "Service": "db",
        "Tags": ["t"],
        "Meta": {"v": "9"},
        "Port": 5432,
        "Address": "10.0.0.2",
        "Weights": {"Passing": 1, "Warning": 1},
        "EnableTagOverride": False,
    },
    "db-sidecar-proxy": {
        "Kind": "connect-proxy",
        "ID": "db-sidecar-proxy",
        "Service": "db-sidecar-proxy",
        "Proxy": {
            "DestinationServiceID": "db",
            "Upstreams": [
                {"DestinationType": "service", "DestinationName": "api", "LocalBindPort": 9103},
                {"DestinationType": "prepared_query", "DestinationName": "q", "LocalBindPort": 9104},
            ],
        },
    },
}
INBOUND = Address(address="10.0.0.2", port=15443)


def test_an_adopted_service_keeps_its_tools_definition_and_gets_the_meshs_part() -> None:
    upstreams = consul_service.sidecar_upstreams(AGENTS.values(), "db")
    assert upstreams == (Upstream(service="api", local_bind_port=9103),)
    assert consul_service.sidecar_upstreams(AGENTS.values(), "other") == ()
    body = consul_service.adopted_body(AGENTS["db"], Mesh(upstreams=upstreams), INBOUND)
    assert (body["Name"], body["ID"], body["Port"], body["Tags"], body["Meta"]["v"]) == ("db", "db", 5432, ["t"], "9")
    assert "Check" not in body, "its checks stay as its tool has made them"
    shown = {key: value for key, value in body.items() if key != "Name"}
    check = {"CheckID": "port", "Status": "warning", "ServiceID": "db", "Output": "slow"}
    found = consul_service.instance(foreign(check, **shown))
    assert found is not None
    assert found.adopted
    assert (found.inbound, found.mesh.upstreams, found.health) == (INBOUND, upstreams, "warning")
    assert [one.output for one in found.results] == ["slow"]


def test_what_is_let_go_is_as_its_tool_had_it() -> None:
    taken = consul_service.adopted_body(AGENTS["db"], Mesh(), INBOUND)
    known = {**AGENTS["db"], "Meta": taken["Meta"], "TaggedAddresses": taken["TaggedAddresses"]}
    again = consul_service.adopted_body(known, Mesh(), None)
    assert (again["Meta"], again["TaggedAddresses"]) == ({"v": "9"}, {})
