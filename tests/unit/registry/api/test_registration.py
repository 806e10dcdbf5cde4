"""Service definitions: read as Consul's clients write them, refused with field and hint."""

import json
from typing import Any

import pytest

from registry.api.fields import Invalid
from registry.api.registration import Registration, parse, parse_check
from registry.model import Check, Mesh, Upstream, Weights


def read(value: Any) -> Registration:
    found = parse(json.dumps(value).encode())
    assert isinstance(found, Registration), found
    return found


def refusal(value: Any) -> Invalid:
    found = parse(json.dumps(value).encode())
    assert isinstance(found, Invalid), found
    return found


def test_the_example_of_the_documentation() -> None:
    found = read(
        {
            "Name": "web", "ID": "web-1", "Port": 8080, "Tags": ["v2"], "Meta": {"version": "2"},
            "Check": {"HTTP": "http://127.0.0.1:8080/healthz", "Interval": "5s"},
            "Mesh": {
                "Protocol": "http", "DrainTimeout": "20s", "Uids": [1000],
                "Upstreams": [{"Service": "api", "LocalBindPort": 9101}],
            },
            "Weights": {"Passing": 10, "Warning": 1},
        }
    )  # fmt: skip
    check = Check(
        check_id="service:web-1",
        name="Service 'web' check",
        http="http://127.0.0.1:8080/healthz",
        interval=5.0,
    )
    assert found == Registration(
        service="web",
        id="web-1",
        port=8080,
        tags=("v2",),
        meta={"version": "2"},
        weights=Weights(passing=10, warning=1),
        checks=(check,),
        mesh=Mesh(
            protocol="http",
            upstreams=(Upstream(service="api", local_bind_port=9101),),
            drain_timeout=20.0,
            uids=(1000,),
        ),
    )


def test_the_id_defaults_to_the_name_and_the_uid_comes_from_the_kernel() -> None:
    found = parse(b'{"name": "web", "port": 80}', uid=1000)
    assert isinstance(found, Registration)
    assert (found.id, found.uid, found.address) == ("web", 1000, "")


def test_what_go_clients_send_empty_is_nothing() -> None:
    found = read(
        {
            "Kind": "", "ID": "", "Name": "web", "Tags": None, "Port": 80, "Address": "", "Meta": None, "Check": None,
            "Checks": None, "Proxy": None, "Connect": None, "Weights": None, "Namespace": "",
        }
    )  # fmt: skip
    assert found == Registration(service="web", id="web", port=80)


def test_upstreams_of_a_sidecar_are_read() -> None:
    upstreams = [{"DestinationName": "api", "DestinationType": "service", "LocalBindPort": 9101, "Config": {"a": 1}}]
    sidecar = {"Port": 20000, "Proxy": {"Upstreams": upstreams, "Config": {}}}
    found = read({"Name": "web", "Port": 80, "Connect": {"SidecarService": sidecar}})
    assert found.mesh.upstreams == (Upstream(service="api", local_bind_port=9101),)


def test_addresses_are_normal_forms_or_names() -> None:
    assert read({"Name": "w", "Port": 1, "Address": "fd00:0::5"}).address == "fd00::5"
    assert read({"Name": "w", "Port": 1, "Address": "db.internal"}).address == "db.internal"


WEB = {"Name": "web", "Port": 80}


@pytest.mark.parametrize(
    ("value", "field", "hint"),
    [
        ({}, "Name", 'like {"Name": "web", "Port": 8080}'),
        ([], "", ""),
        ({"Name": "web"}, "Port", "1 to 65535"),
        ({"Name": "web", "Port": "80"}, "Port", "write 80 without quotes"),
        ({"Name": "web", "Port": 70000}, "Port", "1 to 65535"),
        (WEB | {"Prot": 1}, "Prot", "did you mean Port?"),
        ({"Name": "a b", "Port": 80}, "Name", "1 to 128 of A-Z a-z 0-9 . _ -"),
        ({"Name": "..", "Port": 80}, "Name", "1 to 128 of A-Z a-z 0-9 . _ -"),
        (WEB | {"ID": "a/b"}, "ID", "1 to 128 of A-Z a-z 0-9 . _ -"),
        (WEB | {"Address": "a b"}, "Address", "an IP address, or leave it out"),
        (WEB | {"Tags": ["x"] * 257}, "Tags", "at most 256"),
        (WEB | {"Check": {"HTTP": "http://127.0.0.1/", "Interval": "5x"}}, "Check.Interval", None),
        (WEB | {"Checks": [{"TTL": "5s"}, {"HTTP": "http://8.8.8.8/", "Interval": "5s"}]}, "Checks[1].HTTP", None),
        (WEB | {"Kind": "connect-proxy"}, "Kind", None),
        (WEB | {"Connect": {"Native": True}}, "Connect.Native", None),
        (WEB | {"Mesh": {"Protocol": "grpc"}}, "Mesh.Protocol", "tcp, http"),
        (WEB | {"Mesh": {"Upstreams": [{"Service": "a b", "LocalBindPort": 1}]}}, "Mesh.Upstreams[0].Service", None),
        (WEB | {"Mesh": {"Upstreams": [{"Service": "api"}]}}, "Mesh.Upstreams[0].LocalBindPort", "1 to 65535"),
        (WEB | {"Mesh": {"Uids": ["root"]}}, "Mesh.Uids[0]", None),
        (WEB | {"Weights": {"Passing": -1}}, "Weights.Passing", "0 to 65535"),
    ],
)
def test_a_bad_definition_is_refused_at_its_field(value: Any, field: str, hint: str | None) -> None:
    found = refusal(value)
    assert found.field == field
    assert hint is None or found.hint == hint


def test_upstreams_listen_on_loopback_each_on_its_own_port() -> None:
    def upstreams(*declared: dict[str, Any]) -> Any:
        return WEB | {"Mesh": {"Upstreams": list(declared)}}

    one = {"Service": "api", "LocalBindPort": 9101}
    assert refusal(upstreams(one, one | {"Service": "db"})).field == "Mesh.Upstreams[1].LocalBindPort"
    assert refusal(upstreams(one | {"LocalBindAddress": "0.0.0.0"})).field == "Mesh.Upstreams[0].LocalBindAddress"
    assert read(upstreams(one, one | {"LocalBindAddress": "127.0.0.2"})).mesh.upstreams[1].local_bind_address


@pytest.mark.parametrize(
    ("upstream", "field"),
    [
        ({"DestinationName": "api", "LocalBindPort": 1, "DestinationType": "prepared_query"}, "DestinationType"),
        ({"DestinationName": "api", "LocalBindPort": 1, "Datacenter": "dc2"}, "Datacenter"),
        ({"LocalBindPort": 1}, "DestinationName"),
    ],
)
def test_a_sidecar_that_cannot_be_carried_is_refused(upstream: Any, field: str) -> None:
    value = WEB | {"Connect": {"SidecarService": {"Proxy": {"Upstreams": [upstream]}}}}
    assert refusal(value).field == f"Connect.SidecarService.Proxy.Upstreams[0].{field}"


def test_a_check_of_its_own() -> None:
    found = parse_check(b'{"Name": "more", "TTL": "5s", "ServiceID": "web-1"}')
    assert not isinstance(found, Invalid)
    assert (found[0], found[1].check_id, found[1].ttl) == ("web-1", "more", 5.0)
    for body, field in (
        (b'{"Name": "x", "TTL": "5s"}', "ServiceID"),
        (b'{"TTL": "5s", "ServiceID": "web-1"}', "Name"),
        (b"{", ""),
    ):
        refused = parse_check(body)
        assert isinstance(refused, Invalid)
        assert refused.field == field
