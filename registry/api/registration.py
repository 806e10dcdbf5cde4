"""A service definition as clients of Consul's agent API send it, read into one `Registration`.

https://developer.hashicorp.com/consul/api-docs/agent/service#register-service and, for definitions written for
Consul's own proxies, `Connect.SidecarService.Proxy.Upstreams`, read as `Mesh.Upstreams`.
"""

import ipaddress
from collections.abc import Mapping

import msgspec

from registry import keys
from registry.api import checks, fields
from registry.api.fields import Invalid, Json, Refused, join
from registry.model import Check, Mesh, Upstream, Weights

FIELDS = (
    "Name", "ID", "Port", "Address", "Tags", "Meta", "Check", "Checks", "Mesh", "Weights", "Connect",
    "EnableTagOverride", "TaggedAddresses", "Kind", "Proxy", "Token", "Namespace", "Partition", "SocketPath",
    "Locality",
)  # fmt: skip
MESH = ("Protocol", "Upstreams", "DrainTimeout", "Uids")
UPSTREAM = ("Service", "LocalBindPort", "LocalBindAddress")
CONNECT = ("Native", "SidecarService")
SIDECAR = ("Port", "Proxy", "Name", "ID", "Address", "Tags", "Meta", "Check", "Checks", "Weights",
           "EnableTagOverride", "Kind", "Connect", "TaggedAddresses", "Token", "Namespace")  # fmt: skip
PROXY = ("Upstreams", "Config", "DestinationServiceName", "DestinationServiceID", "LocalServiceAddress",
         "LocalServicePort", "Mode", "MeshGateway", "Expose", "TransparentProxy", "EnvoyExtensions")  # fmt: skip
PROXY_UPSTREAM = ("DestinationName", "DestinationType", "DestinationNamespace", "DestinationPartition", "Datacenter",
                  "LocalBindPort", "LocalBindAddress", "LocalBindSocketPath", "LocalBindSocketMode", "Config",
                  "MeshGateway", "CentrallyConfigured")  # fmt: skip
PROTOCOLS = ("tcp", "http")
LATER = ("Kind", "SocketPath", "Proxy")
MAX_TAGS = 256


class Registration(msgspec.Struct, frozen=True, kw_only=True):
    """What a client asked for. `address` empty: the host's own. `uid`: of the caller, when the kernel told it."""

    service: str
    id: str
    port: int
    address: str = ""
    tags: tuple[str, ...] = ()
    meta: dict[str, str] = {}
    weights: Weights = Weights()
    checks: tuple[Check, ...] = ()
    mesh: Mesh = Mesh()
    uid: int | None = None


def parse(data: bytes, own: frozenset[str] = frozenset(), uid: int | None = None) -> Registration | Invalid:
    """The registration in a request body, or why not. `own`: this host's addresses, allowed as check targets."""
    try:
        return read(fields.body(data), own, uid)
    except Refused as refused:
        return refused.invalid


def parse_check(data: bytes, own: frozenset[str] = frozenset()) -> tuple[str, Check] | Invalid:
    """(instance id, check) of `PUT /v1/agent/check/register`; the check's id defaults to its name, as in Consul."""
    try:
        value = fields.body(data)
        check = checks.read(value, "", own)
        found = fields.take(value, "", checks.FIELDS)
        instance_id = fields.string(found.get("ServiceID", ""), "ServiceID")
        if not instance_id:
            raise Refused("a check belongs to a service", "ServiceID", "name the instance that it watches")
        if not check.name:
            raise Refused("Missing check name", "Name")
        return instance_id, msgspec.structs.replace(check, check_id=check.check_id or check.name)
    except Refused as refused:
        return refused.invalid


def read(value: Json, own: frozenset[str], uid: int | None) -> Registration:
    """As `parse`, from decoded JSON. Raises Refused."""
    found = fields.take(value, "", FIELDS)
    fields.absent(found, "", LATER, "meshd brings its own proxy: use Mesh.Upstreams")
    service = _name(found, "Name", "")
    if not service:
        raise Refused("Missing service name", "Name", 'like {"Name": "web", "Port": 8080}')
    instance_id = _name(found, "ID", service)
    weights = fields.take(found.get("Weights", {}), "Weights", ("Passing", "Warning"))
    return Registration(
        service=service,
        id=instance_id,
        port=fields.integer(found.get("Port", 0), "Port", 1, 65535),
        address=_address(found.get("Address", "")),
        tags=_tags(found.get("Tags", [])),
        meta=fields.string_map(found.get("Meta", {}), "Meta"),
        weights=Weights(
            passing=fields.integer(weights.get("Passing", 1), "Weights.Passing", 0, 65535),
            warning=fields.integer(weights.get("Warning", 1), "Weights.Warning", 0, 65535),
        ),
        checks=_checks(found, instance_id, service, own),
        mesh=_mesh(found),
        uid=uid,
    )


def _name(found: Mapping[str, Json], field: str, default: str) -> str:
    value = fields.string(found.get(field, ""), field) or default
    if value and not keys.valid_name(value):
        raise Refused(f"{field} {value[:140]!r} is no name", field, "1 to 128 of A-Z a-z 0-9 . _ -")
    return value


def _address(value: Json) -> str:
    address = fields.string(value, "Address")
    if not address:
        return ""
    try:
        return str(ipaddress.ip_address(address))
    except ValueError:
        if keys.valid_name(address):
            return address
        raise Refused(f"Address {address!r} is no address", "Address", "an IP address, or leave it out") from None


def _tags(value: Json) -> tuple[str, ...]:
    tags = fields.strings(value, "Tags")
    if len(tags) > MAX_TAGS:
        raise Refused(f"{len(tags)} tags", "Tags", f"at most {MAX_TAGS}")
    return tags


def _checks(found: Mapping[str, Json], instance_id: str, service: str, own: frozenset[str]) -> tuple[Check, ...]:
    read: list[Check] = []
    if found.get("Check") not in (None, {}):
        read.append(checks.read(found["Check"], "Check", own))
    for i, value in enumerate(fields.listed(found.get("Checks", []), "Checks")):
        read.append(checks.read(value, f"Checks[{i}]", own))
    return checks.named(read, instance_id, service)


def _mesh(found: Mapping[str, Json]) -> Mesh:
    mesh = fields.take(found.get("Mesh", {}), "Mesh", MESH)
    protocol = fields.string(mesh["Protocol"], "Mesh.Protocol") if "Protocol" in mesh else None
    if protocol is not None and protocol not in PROTOCOLS:
        raise Refused(f"Mesh.Protocol {protocol!r}", "Mesh.Protocol", ", ".join(PROTOCOLS))
    declared = fields.listed(mesh.get("Upstreams", []), "Mesh.Upstreams")
    upstreams = [_upstream(item, f"Mesh.Upstreams[{i}]") for i, item in enumerate(declared)]
    upstreams += _sidecar(found.get("Connect", {}))
    ports = [(u.local_bind_address, u.local_bind_port) for u in upstreams]
    for i, port in enumerate(ports):
        if port in ports[:i]:
            raise Refused(f"port {port[1]} is declared twice", f"Mesh.Upstreams[{i}].LocalBindPort", "one port each")
    uids = fields.listed(mesh.get("Uids", []), "Mesh.Uids")
    return Mesh(
        protocol=protocol,
        upstreams=tuple(upstreams),
        drain_timeout=fields.duration(mesh.get("DrainTimeout", "30s"), "Mesh.DrainTimeout"),
        uids=tuple(fields.integer(uid, f"Mesh.Uids[{i}]", 0, 2**32 - 2) for i, uid in enumerate(uids)),
    )


def _upstream(value: Json, path: str) -> Upstream:
    found = fields.take(value, path, UPSTREAM)
    return _bind(found, path, _target_name(found.get("Service", ""), join(path, "Service")))


def _sidecar(value: Json) -> list[Upstream]:
    connect = fields.take(value, "Connect", CONNECT)
    fields.absent(connect, "Connect", ("Native",), "meshd's proxy speaks for the service")
    sidecar = fields.take(connect.get("SidecarService", {}), "Connect.SidecarService", SIDECAR)
    path = "Connect.SidecarService.Proxy"
    proxy = fields.take(sidecar.get("Proxy", {}), path, PROXY)
    declared = fields.listed(proxy.get("Upstreams", []), f"{path}.Upstreams")
    return [_proxy_upstream(item, f"{path}.Upstreams[{i}]") for i, item in enumerate(declared)]


def _proxy_upstream(value: Json, path: str) -> Upstream:
    found = fields.take(value, path, PROXY_UPSTREAM)
    fields.absent(found, path, ("Datacenter", "LocalBindSocketPath"), "one datacenter, loopback ports")
    if found.get("DestinationType", "service") not in ("", "service"):
        raise Refused("prepared queries are not supported", join(path, "DestinationType"), "service")
    return _bind(found, path, _target_name(found.get("DestinationName", ""), join(path, "DestinationName")))


def _target_name(value: Json, path: str) -> str:
    name = fields.string(value, path)
    if not keys.valid_name(name):
        raise Refused(f"{path} {name!r} is no service name", path, "1 to 128 of A-Z a-z 0-9 . _ -")
    return name


def _bind(found: Mapping[str, Json], path: str, service: str) -> Upstream:
    address = fields.string(found.get("LocalBindAddress", ""), join(path, "LocalBindAddress"))
    if address and checks.foreign(address, frozenset()):
        raise Refused(f"upstreams listen on loopback, not on {address!r}", join(path, "LocalBindAddress"), "127.0.0.1")
    port = fields.integer(found.get("LocalBindPort", 0), join(path, "LocalBindPort"), 1, 65535)
    return Upstream(service=service, local_bind_port=port, local_bind_address=address)
