"""Health checks of a registration: Consul's fields in, `registry.model.Check` out.

A check makes this host send a request, so a registration must not choose the target freely (Consul CVE-2022-29153,
GO-2022-0615): only the host's own addresses, as literals, never link-local or a cloud's metadata service.
https://developer.hashicorp.com/consul/api-docs/agent/check#register-check
"""

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

import msgspec

from registry.api import fields
from registry.api.fields import Json, Refused, join
from registry.model import Check, Health

FIELDS = (
    "CheckID", "ID", "Name", "Notes", "Status", "HTTP", "Method", "Header", "TCP", "TTL", "Interval", "Timeout",
    "SuccessBeforePassing", "FailuresBeforeWarning", "FailuresBeforeCritical", "DeregisterCriticalServiceAfter",
    "Args", "ScriptArgs", "Script", "DockerContainerID", "Shell", "GRPC", "GRPCUseTLS", "AliasNode", "AliasService",
    "Body", "TLSSkipVerify", "TLSServerName", "H2PING", "UDP", "OutputMaxSize", "DisableRedirects", "ServiceID",
    "Namespace", "Partition", "Type",
)  # fmt: skip
EXEC = ("Args", "ScriptArgs", "Script", "DockerContainerID", "Shell")
TARGETS = ("HTTP", "TCP", "GRPC", "TTL")
LATER = ("AliasNode", "AliasService", "Body", "H2PING", "UDP")
METHODS = ("GET", "HEAD", "POST", "PUT", "OPTIONS")
HEALTH: tuple[Health, ...] = ("passing", "warning", "critical")

# Addresses that answer with credentials to whoever asks from this host; refused even if they are the host's own.
METADATA = frozenset(ipaddress.ip_address(a) for a in ("169.254.169.254", "100.100.100.200", "fd00:ec2::254"))

IPAddress = ipaddress.IPv4Address | ipaddress.IPv6Address


def read(value: Json, path: str, own: frozenset[str]) -> Check:
    """One check. `own`: addresses of this host besides loopback. `check_id` is empty unless given. Raises Refused."""
    found = fields.take(value, path, FIELDS)
    for name in EXEC:
        if found.get(name) not in (None, "", []):
            raise Refused(
                f"{name}: a check that runs a program cannot be registered over HTTP",
                join(path, name),
                "write it in the host's configuration, or use HTTP, TCP, GRPC or TTL",
            )
    fields.absent(found, path, LATER, "use HTTP, TCP, GRPC or TTL")
    given = [name for name in TARGETS if found.get(name) not in (None, "")]
    if len(given) != 1:
        raise Refused(
            "a check has exactly one of HTTP, TCP, GRPC and TTL", path, f"found: {', '.join(given) or 'none'}"
        )
    return _read(found, path, own)


@dataclass(frozen=True)
class Given:
    """The fields of one check. All methods raise Refused."""

    found: Mapping[str, Json]
    path: str

    def seconds(self, name: str, default: float) -> float:
        value = self.found.get(name)
        return fields.duration(value, join(self.path, name)) if value not in (None, "") else default

    def text(self, name: str, default: str = "") -> str:
        return fields.string(self.found.get(name, default), join(self.path, name)) or default

    def count(self, name: str) -> int:
        return fields.integer(self.found.get(name, 0), join(self.path, name), 0, 1000)

    def flag(self, name: str) -> bool:
        return fields.boolean(self.found.get(name, False), join(self.path, name))


def _read(found: Mapping[str, Json], path: str, own: frozenset[str]) -> Check:
    given = Given(found, path)
    text, seconds, count, flag = given.text, given.seconds, given.count, given.flag
    http, tcp, grpc, ttl = text("HTTP"), text("TCP"), text("GRPC"), seconds("TTL", 0.0)
    if not ttl:
        kind = "HTTP" if http else "GRPC" if grpc else "TCP"
        # Behind the first slash stands the name of a gRPC service, not a path.
        _target(http or f"tcp://{tcp or grpc.partition('/')[0]}", join(path, kind), own, wants_port=not http)
        if "Interval" not in found or seconds("Interval", 0.0) < 0.1:
            raise Refused("Interval must be at least 100ms for checks that probe", join(path, "Interval"), '"10s"')
    _tls(found, path, http, grpc)
    method, status = text("Method", "GET").upper(), text("Status", "critical")
    if method not in METHODS:
        raise Refused(f"Method {method!r}", join(path, "Method"), ", ".join(METHODS))
    return Check(
        check_id=text("CheckID") or text("ID"),
        name=text("Name"),
        http=http,
        method=method,
        header=_headers(found.get("Header", {}), join(path, "Header")),
        tcp=tcp,
        grpc=grpc,
        grpc_tls=flag("GRPCUseTLS"),
        tls_server_name=text("TLSServerName"),
        tls_skip_verify=flag("TLSSkipVerify"),
        ttl=ttl,
        interval=seconds("Interval", 10.0),
        timeout=seconds("Timeout", 10.0),
        success_before_passing=count("SuccessBeforePassing"),
        failures_before_warning=count("FailuresBeforeWarning"),
        failures_before_critical=count("FailuresBeforeCritical"),
        deregister_critical_service_after=seconds("DeregisterCriticalServiceAfter", 0.0),
        status=health(status, join(path, "Status")),
        notes=text("Notes"),
    )


def _tls(found: Mapping[str, Json], path: str, http: str, grpc: str) -> None:
    """Refuse settings of TLS where there is none: whoever wrote them believes otherwise."""
    if found.get("GRPCUseTLS") and not grpc:
        raise Refused("GRPCUseTLS means nothing without GRPC", join(path, "GRPCUseTLS"))
    secure = (grpc and found.get("GRPCUseTLS")) or http.startswith("https:")
    for name in ("TLSServerName", "TLSSkipVerify"):
        if found.get(name) and not secure:
            raise Refused(f"{name} means nothing without TLS", join(path, name), "an https URL, or GRPCUseTLS: true")


def health(value: str, path: str) -> Health:
    """passing, warning or critical (`warn`, `pass`, `fail` are verbs of the path, not states). Raises Refused."""
    for known in HEALTH:
        if value == known:
            return known
    raise Refused(f"Invalid check status: {value!r}", path, ", ".join(HEALTH))


def named(checks: list[Check], instance_id: str, service: str) -> tuple[Check, ...]:
    """Consul's names for checks without one: `service:<id>`, and `service:<id>:<n>` when there are several."""
    out: list[Check] = []
    for number, check in enumerate(checks, start=1):
        default = f"service:{instance_id}" if len(checks) == 1 else f"service:{instance_id}:{number}"
        name = check.name or f"Service '{service}' check"
        out.append(msgspec.structs.replace(check, check_id=check.check_id or default, name=name))
    ids = [check.check_id for check in out]
    for number, check_id in enumerate(ids):
        if check_id in ids[:number]:
            raise Refused(f"two checks are called {check_id!r}", f"Checks[{number}].CheckID", "give each its own")
    return tuple(out)


def _target(url: str, path: str, own: frozenset[str], wants_port: bool) -> None:
    try:
        parts = urlsplit(url)
        port, host = parts.port, parts.hostname
    except ValueError as error:
        raise Refused(f"{url!r} is no address: {error}", path) from error
    if parts.scheme not in ("http", "https", "tcp") or parts.username is not None or not host:
        raise Refused(f"{url!r} is no check target", path, "http://127.0.0.1:8080/healthz or 127.0.0.1:8080")
    if wants_port and (not port or parts.path or parts.query):
        raise Refused(f"{url.removeprefix('tcp://')!r} is not address:port", path, "127.0.0.1:8080")
    reason = foreign(host, own)
    if reason:
        raise Refused(f"check target {host!r} {reason}", path, "a check probes its own host: 127.0.0.1 or localhost")


def foreign(host: str, own: frozenset[str]) -> str:
    """Why a host may not be probed from here, or empty. Names other than localhost could later point elsewhere."""
    if host == "localhost":
        return ""
    try:
        address: IPAddress = ipaddress.ip_address(host)
    except ValueError:
        return "is a name, not an address of this host"
    mapped = getattr(address, "ipv4_mapped", None)
    address = mapped or address
    if address in METADATA or address.is_link_local:
        return "is link-local or a metadata service"
    if address.is_loopback or str(address) in own:
        return ""
    return "is not an address of this host"


def _headers(value: Json, path: str) -> dict[str, tuple[str, ...]]:
    if not isinstance(value, dict):
        raise Refused(f"{path} must be an object of lists", path, '{"Accept": ["text/plain"]}')
    return {
        fields.string(name, path): fields.strings([item] if isinstance(item, str) else item, join(path, name))
        for name, item in value.items()
    }
