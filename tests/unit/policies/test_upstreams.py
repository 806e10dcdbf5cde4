"""Upstream ports, and how each caller treats its destinations."""

import pytest

from policies.compile import compile_host
from policies.compiled import Listener, Outlier, Upstream
from policies.view import Compiled
from registry import model
from tests.unit.policies.build import caller, endpoint, instance, resources, service, view


def declaring(*upstreams: model.Upstream, name: str = "web", instance_id: str = "") -> model.Instance:
    return instance(name, "a", instance_id, mesh=model.Mesh(upstreams=upstreams))


def up(service_name: str, port: int, address: str = "") -> model.Upstream:
    return model.Upstream(service=service_name, local_bind_port=port, local_bind_address=address)


def compiled_listeners(compiled: Compiled) -> list[Listener]:
    return [resource for resource in compiled.resources if isinstance(resource, Listener)]


def test_one_port_per_declared_upstream_on_the_hosts_loopback() -> None:
    local = declaring(up("api", 9101), up("db", 9102, "127.0.0.9"))
    compiled = compile_host(view(local=(local,), loopback="127.0.0.5"))
    assert compiled.problems == ()
    assert compiled_listeners(compiled) == [
        Listener(name="web/a/web-1:api", address="127.0.0.5", port=9101, instance="web/a/web-1", service="api"),
        Listener(name="web/a/web-1:db", address="127.0.0.9", port=9102, instance="web/a/web-1", service="db"),
    ]


@pytest.mark.parametrize(
    ("local", "reason"),
    [
        ((declaring(up("api", 9101, "0.0.0.0")),), "upstream api is not on loopback"),
        ((declaring(up("api", 9101, "10.0.0.1")),), "upstream api is not on loopback"),
        ((declaring(up("api", 0)),), "an upstream has no valid Service and LocalBindPort"),
        ((declaring(up("a/b", 9101)),), "an upstream has no valid Service and LocalBindPort"),
    ],
)
def test_upstreams_that_cannot_be_bound(local: tuple[model.Instance, ...], reason: str) -> None:
    compiled = compile_host(view(local=local))
    assert compiled_listeners(compiled) == []
    assert [problem.reason for problem in compiled.problems] == [reason]


def test_a_port_has_one_holder_in_any_order_of_registration() -> None:
    one, two = declaring(up("api", 9101), instance_id="w1"), declaring(up("api", 9101), instance_id="w2")
    for local in ((one, two), (two, one)):
        compiled = compile_host(view(local=local))
        assert [listener.instance for listener in compiled_listeners(compiled)] == ["web/a/w1"]
        (problem,) = compiled.problems
        assert (problem.name, problem.reason) == ("web/a/w2", "upstream port 127.0.0.1:9101 is taken by web/a/w1:api")


def test_an_upstream_declared_twice() -> None:
    compiled = compile_host(view(local=(declaring(up("api", 9101), up("api", 9102)),)))
    assert [listener.port for listener in compiled_listeners(compiled)] == [9101]
    assert [problem.reason for problem in compiled.problems] == ["upstream api is declared twice"]


def test_without_documents_the_defaults_hold() -> None:
    found = service("api", local=(caller("web", "api"),), spoken={"api": "tcp"})
    assert (found.protocol, found.upstream, found.callers) == ("tcp", Upstream(), {})


def test_the_resolvers_connect_timeout() -> None:
    found = service("api", ("service-resolver", "api", "ConnectTimeout: 2s"))
    assert found.upstream == Upstream(connect_timeout_ms=2000, origin="service-resolver/api#ConnectTimeout@1")


CONFIG = """
UpstreamConfig:
  Defaults: {ConnectTimeout: 900ms, PassiveHealthCheck: {MaxFailures: 9}, AllowPlaintext: true}
  Overrides:
    - {Name: db, ConnectTimeout: 100ms}
    - Name: api
      PassiveHealthCheck: {Interval: 5s, MaxFailures: 3, MaxEjectionPercent: 0, BaseEjectionTime: 1m}
"""


def test_callers_override_field_by_field() -> None:
    said = ("service-defaults", "web", CONFIG), ("service-resolver", "api", "ConnectTimeout: 2s")
    local = (caller("web", "api"), instance("other", "a"))
    found = service("api", *said, local=local)
    assert found.upstream.connect_timeout_ms == 2000
    assert found.callers == {
        "web": Upstream(
            connect_timeout_ms=900,
            allow_plaintext=True,
            outlier=Outlier(consecutive_failures=3, base_ejection_ms=60_000, max_ejection_percent=0, interval_ms=5000),
            origin="service-defaults/web#UpstreamConfig.Overrides[1]@1",
        )
    }
    assert service("far", *said, local=local).callers["web"].origin == "service-defaults/web#UpstreamConfig.Defaults@1"
    assert service("db", *said, local=local).callers["web"].outlier.consecutive_failures == 9


def test_a_pattern_of_callers() -> None:
    said = ("service-defaults", "*", "UpstreamConfig: {Overrides: [{Name: api, ConnectTimeout: 100ms}]}")
    found = service("api", said, local=(caller("web", "api"), instance("x", "a")))
    assert sorted(found.callers) == ["web", "x"]


def test_plaintext_never_to_a_service_once_meshed() -> None:
    """A registry writer clears the mesh marker of a service: no downgrade."""
    said = ("service-defaults", "web", "UpstreamConfig: {Defaults: {AllowPlaintext: true}}")
    plain = endpoint(instance("api", inbound=None))
    local = (caller("web", "api"),)
    allowed = view(said, local=local, endpoints={"api": (plain,)})
    assert resources(compile_host(allowed))["service/api"].callers["web"].allow_plaintext
    mixed = (plain, endpoint(instance("api", instance_id="api-2")))
    for refused in (
        view(said, local=local, endpoints={"api": mixed}),
        view(said, local=local, endpoints={"api": (plain,)}, meshed=frozenset({"api"})),
    ):
        compiled = compile_host(refused)
        assert not resources(compiled)["service/api"].callers["web"].allow_plaintext
        assert [problem.path for problem in compiled.problems] == ["UpstreamConfig"]
