"""Kind service-defaults."""

from policies.schema.service_defaults import (
    PassiveHealthCheck,
    ServiceDefaults,
    UpstreamConfig,
    UpstreamSettings,
)
from tests.unit.policies.build import document, problem


def test_everything_that_it_may_say() -> None:
    text = """
Protocol: http
MaxInboundConnections: 100
LocalConnectTimeoutMs: 250
LocalRequestTimeout: 3s
Registries: [home, etcd]
UpstreamConfig:
  Defaults: {ConnectTimeoutMs: 900, AllowPlaintext: false}
  Overrides:
    - Name: api
      ConnectTimeout: 0.5s
      PassiveHealthCheck: {Interval: 5s, MaxFailures: 3, MaxEjectionPercent: 25, BaseEjectionTime: 1m}
      AllowPlaintext: true
"""
    assert document("service-defaults", "web", text) == ServiceDefaults(
        name="web",
        version=1,
        protocol="http",
        max_inbound_connections=100,
        local_connect_timeout_ms=250,
        local_request_timeout_ms=3000,
        registries=("home", "etcd"),
        upstream_config=UpstreamConfig(
            defaults=UpstreamSettings(connect_timeout_ms=900, allow_plaintext=False),
            overrides=(
                UpstreamSettings(
                    name="api",
                    connect_timeout_ms=500,
                    passive_health_check=PassiveHealthCheck(
                        interval_ms=5000, max_failures=3, max_ejection_percent=2500, base_ejection_ms=60_000
                    ),
                    allow_plaintext=True,
                ),
            ),
        ),
    )


def test_later_protocols_and_fields_are_named() -> None:
    assert problem("service-defaults", "web", "Protocol: grpc").reason == "grpc is not supported yet"
    limits = "UpstreamConfig: {Defaults: {Limits: {MaxConnections: 3}}}"
    assert problem("service-defaults", "web", limits).path == "UpstreamConfig.Defaults.Limits"
    assert (
        problem("service-defaults", "web", "RateLimits: {InstanceLevel: {RequestsPerSecond: 3}}").path == "RateLimits"
    )


def test_consuls_empty_fields_say_nothing() -> None:
    text = "Protocol: ''\nTransparentProxy: {}\nMeshGateway: {Mode: ''}\nExpose: {Paths: []}"
    assert document("service-defaults", "web", text) == ServiceDefaults(name="web", version=1)


def test_no_failures_is_no_threshold() -> None:
    text = "UpstreamConfig: {Defaults: {PassiveHealthCheck: {MaxFailures: 0}}}"
    assert problem("service-defaults", "web", text).path.endswith("PassiveHealthCheck.MaxFailures")


def test_an_override_needs_a_name() -> None:
    text = "UpstreamConfig: {Overrides: [{ConnectTimeout: 1s}]}"
    assert problem("service-defaults", "web", text).path == "UpstreamConfig.Overrides[0].Name"


def test_registries_are_names() -> None:
    found = problem("service-defaults", "web", "Registries: [home, a/b]")
    assert (found.path, "no name of a registry" in found.reason) == ("Registries[1]", True)
