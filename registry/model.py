"""Values of the registry: what a host says about its instances, and what the mesh knows of them.

The stored document of an instance (`services/<service>/<node>/<id>`) is `Instance` as CamelCase JSON; field names are
Consul's where Consul has the field (https://developer.hashicorp.com/consul/api-docs/agent/service).
"""

from typing import Literal

import msgspec

Health = Literal["passing", "warning", "critical"]
ADOPTED = "meshd-adopted"  # in `meta`
EndpointState = Literal["passing", "warning", "critical", "suspect", "draining", "damped"]


class Struct(
    msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True, forbid_unknown_fields=True
):
    """Base of stored values: frozen, CamelCase on the wire, defaults left out, unknown fields refused."""


class Upstream(Struct, frozen=True, kw_only=True):
    """A dependency that an instance declares: a loopback port of the caller's host that leads to `service`."""

    service: str
    local_bind_port: int
    local_bind_address: str = ""  # empty: the host's `Loopback`


class Mesh(Struct, frozen=True, kw_only=True):
    """meshd's part of a registration. `protocol` tcp|http; None: what service-defaults say, else tcp."""

    protocol: str | None = None
    upstreams: tuple[Upstream, ...] = ()
    drain_timeout: float = 30.0  # seconds
    uids: tuple[int, ...] = ()


class Weights(Struct, frozen=True, kw_only=True):
    """Consul's weights: share of traffic while passing and while warning."""

    passing: int = 1
    warning: int = 1


class Check(Struct, frozen=True, kw_only=True):
    """A health check definition. Exactly one of http, tcp, grpc, ttl (seconds) is set. Times in seconds.

    `grpc`: address:port, or address:port/service. `tls_server_name`: what the certificate must say instead of the
    address, for `grpc_tls` and https; `tls_skip_verify`: whoever shows it is believed (an app of this host's own).
    """

    check_id: str
    name: str = ""
    http: str = ""
    method: str = "GET"
    header: dict[str, tuple[str, ...]] = {}
    tcp: str = ""
    grpc: str = ""
    grpc_tls: bool = False
    tls_server_name: str = ""
    tls_skip_verify: bool = False
    ttl: float = 0.0
    interval: float = 10.0
    timeout: float = 10.0
    success_before_passing: int = 0
    failures_before_warning: int = 0
    failures_before_critical: int = 0
    deregister_critical_service_after: float = 0.0
    status: Health = "critical"  # before the first result, as in Consul
    notes: str = ""


class CheckResult(Struct, frozen=True, kw_only=True):
    """What a check last said; `output` cut at 4 KB; stored in the instance only when the status changes."""

    check_id: str
    status: Health
    output: str = ""


class Address(Struct, frozen=True, kw_only=True):
    """Where something listens."""

    address: str
    port: int


class InstanceKey(msgspec.Struct, frozen=True, order=True):
    """An instance's name in the mesh: `<service>/<node>/<id>` in keys, resources and messages."""

    service: str
    node: str
    id: str

    def __str__(self) -> str:
        return f"{self.service}/{self.node}/{self.id}"


class Instance(Struct, frozen=True, kw_only=True):
    """One registered instance. `inbound` is the mTLS port of its host; None: not meshed (plaintext only).

    `state` withdrawn: on its way out on purpose, deleted 30 s later; maintenance: out of traffic until switched back.
    """

    service: str
    node: str
    id: str
    address: str  # of the app, as other hosts would reach it without a mesh
    port: int
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    node_meta: dict[str, str] = {}
    weights: Weights = Weights()
    mesh: Mesh = Mesh()
    checks: tuple[Check, ...] = ()
    results: tuple[CheckResult, ...] = ()
    health: Health = "passing"  # the worst of its checks; no checks: passing
    state: Literal["active", "withdrawn", "maintenance"] = "active"
    reason: str = ""  # of the maintenance
    inbound: Address | None = None

    @property
    def adopted(self) -> bool:
        """Registered by another tool, and taken into the mesh by the meshd of its host."""
        return ADOPTED in self.meta

    @property
    def key(self) -> InstanceKey:
        return InstanceKey(self.service, self.node, self.id)


class Node(Struct, frozen=True, kw_only=True):
    """A joined host (`nodes/<node>`)."""

    name: str
    address: str
    inbound_port: int
    roles: tuple[str, ...] = ()
    version: str = ""
    meta: dict[str, str] = {}


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """An instance as callers see it now: the registry's word and the host's lease folded into one state.

    damped: it came back `flaps` times in quick succession and gets no new traffic until `damped_until` (seconds of the
    fold's clock).
    """

    instance: Instance
    state: EndpointState
    flaps: int = 0
    damped_until: float = 0.0


class Document(msgspec.Struct, frozen=True, kw_only=True):
    """A policy document as stored: opaque here, given meaning by `policies`. `version` is its doc_version."""

    kind: str
    name: str
    text: bytes
    version: int
