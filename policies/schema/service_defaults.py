"""Kind `service-defaults`: a service's protocol and limits, and how it treats its upstreams.

Source: https://developer.hashicorp.com/consul/docs/connect/config-entries/service-defaults
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.schema import values
from policies.schema.document import Base
from policies.schema.shape import Field, Shape, list_of, scalar


@dataclass(frozen=True, kw_only=True)
class PassiveHealthCheck:
    """None: the mesh's default."""

    interval_ms: int | None = None
    max_failures: int | None = None
    max_ejection_percent: int | None = None
    base_ejection_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class UpstreamSettings:
    """`name` is "" in `Defaults`. None: not said here, `Defaults` or the mesh's default decides."""

    name: str = ""
    connect_timeout_ms: int | None = None
    passive_health_check: PassiveHealthCheck | None = None
    allow_plaintext: bool | None = None


@dataclass(frozen=True, kw_only=True)
class UpstreamConfig:
    defaults: UpstreamSettings | None = None
    overrides: tuple[UpstreamSettings, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServiceDefaults(Base):
    kind: ClassVar[str] = "service-defaults"

    protocol: Literal["tcp", "http"] | None = None
    upstream_config: UpstreamConfig = UpstreamConfig()
    max_inbound_connections: int = 0  # 0: no limit
    local_connect_timeout_ms: int | None = None
    local_request_timeout_ms: int | None = None
    registries: tuple[str, ...] = ()  # where its instances are registered; none: in the home registry


HEALTH = Shape(
    PassiveHealthCheck,
    (
        Field("Interval", "interval_ms", scalar(values.nanoseconds)),
        # 0 would read as "never" to some and as "unset" to Consul; MaxEjectionPercent 0 says "never" clearly
        Field("MaxFailures", "max_failures", scalar(values.whole(1, 1_000_000))),
        Field("MaxEjectionPercent", "max_ejection_percent", scalar(values.percent)),
        Field("BaseEjectionTime", "base_ejection_ms", scalar(values.nanoseconds)),
    ),
    later=(
        "EnforcingConsecutive5xx",
        "SuccessRate",
        "FailurePercent",
        "LocalOrigin",
        "SlowerThan",
        "PanicThreshold",
    ),
)

_UPSTREAM_FIELDS = (
    Field("ConnectTimeout", "connect_timeout_ms", scalar(values.duration)),
    Field("ConnectTimeoutMs", "connect_timeout_ms", scalar(values.milliseconds)),
    Field("PassiveHealthCheck", "passive_health_check", HEALTH),
    Field("AllowPlaintext", "allow_plaintext", scalar(values.boolean)),
)
_UPSTREAM_LATER = (
    "Limits",
    "Protocol",
    "MeshGateway",
    "EnvoyListenerJSON",
    "EnvoyClusterJSON",
    "BalanceOutboundConnections",
    "Peer",
)

DEFAULTS = Shape(UpstreamSettings, _UPSTREAM_FIELDS, later=_UPSTREAM_LATER)
OVERRIDE = Shape(
    UpstreamSettings,
    (Field("Name", "name", scalar(values.service_name), required=True), *_UPSTREAM_FIELDS),
    later=_UPSTREAM_LATER,
)
UPSTREAM_CONFIG = Shape(
    UpstreamConfig,
    (Field("Defaults", "defaults", DEFAULTS), Field("Overrides", "overrides", list_of(OVERRIDE))),
)

SHAPE = Shape(
    ServiceDefaults,
    (
        Field(
            "Protocol",
            "protocol",
            scalar(values.optional(values.one_of("tcp", "http", later=("http2", "grpc")))),
        ),
        Field("UpstreamConfig", "upstream_config", UPSTREAM_CONFIG),
        Field("MaxInboundConnections", "max_inbound_connections", scalar(values.whole(0, 1_000_000))),
        Field("LocalConnectTimeout", "local_connect_timeout_ms", scalar(values.duration)),
        Field("LocalConnectTimeoutMs", "local_connect_timeout_ms", scalar(values.milliseconds)),
        Field("LocalRequestTimeout", "local_request_timeout_ms", scalar(values.duration)),
        Field("LocalRequestTimeoutMs", "local_request_timeout_ms", scalar(values.milliseconds)),
        Field("Registries", "registries", list_of(scalar(values.registry_name))),
    ),
    later=(
        "RateLimits",
        "ActiveHealthCheck",
        "Expose",
        "MutualTLSMode",
        "TransparentProxy",
        "MeshGateway",
        "Mode",
        "ExternalSNI",
        "Destination",
        "BalanceInboundConnections",
        "EnvoyExtensions",
    ),
)
