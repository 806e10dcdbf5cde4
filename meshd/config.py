"""The host's configuration: one YAML file, `MESHD_<PATH>` from the environment, `--set a.b=c`, in rising precedence.

Names and defaults are those of the interface description (`docs/`); everything is optional but what the registry's
kind demands. A key that is not known and a value that does not fit are refused with file, line and a hint; nothing
is ever ignored. Secrets are never values, only names of files.
"""

import difflib
import ipaddress
import socket
import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
import yaml

from meshd.placed import ConfigError, Fault, place_of, read
from meshd.registry_settings import Further, Registry, check_further, check_server
from meshd.section import Config, Seconds
from registry import keys

# Variables that belong to others (meshctl, the supervisor); every other MESHD_* must be a path of this file.
RESERVED = frozenset({"MESHD_API", "MESHD_PROXY_BIN", "MESHD_TOKEN_FILE"})

Port = Annotated[int, msgspec.Meta(ge=1, le=65535)]


class Advertise(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """What other hosts dial; address empty: the source address of the default route; port 0: `Ports.Inbound`."""

    address: str = ""
    port: Annotated[int, msgspec.Meta(ge=0, le=65535)] = 0


class Bind(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    inbound: str = "0.0.0.0"
    peer: str = "0.0.0.0"


class Ports(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    api: Port = 15500
    forward: Port = 15501
    inbound: Port = 15443
    peer: Port = 15444
    dns: Port = 15053
    admin: Port = 15590


class Proxy(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """`manage` false: another supervisor (systemd) starts the proxy. `threads` 0: the proxy's own choice.

    `access_log`: a file of JSON lines; empty: the proxy's stdout.
    """

    manage: bool = True
    threads: Annotated[int, msgspec.Meta(ge=0, le=1024)] = 0
    binary: str = ""
    access_log: str = ""


class Join(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """How a host joins on its first start. `root_hash`: hex SHA-256 of the root certificate (DER)."""

    address: str = ""
    token_file: str = ""
    root_hash: str = ""


class Docker(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """Containers with `meshd.*` labels register themselves. `interval`: how often all of them are listed anew."""

    enabled: bool = False
    socket: str = "/var/run/docker.sock"
    interval: Seconds = Seconds(30)


class Register(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """Users who may register services, by name or `prefix*`."""

    uids: tuple[int, ...] = ()
    services: tuple[str, ...] = ()


class Host(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """All settings of one host. `services`: registrations as in the HTTP API. `development`: open access to the
    local API and loopback as the advertised address; said aloud at start and in `/status`."""

    node: str = ""
    data_dir: str = "/var/lib/meshd"
    run_dir: str = "/run/meshd"
    roles: tuple[Literal["registry", "ca"], ...] = ()
    registry: Registry = Registry()
    registries: tuple[Further, ...] = ()
    advertise: Advertise = Advertise()
    loopback: str = "127.0.0.1"
    bind: Bind = Bind()
    ports: Ports = Ports()
    proxy: Proxy = Proxy()
    join: Join = Join()
    register: tuple[Register, ...] = ()
    docker: Docker = Docker()
    services: tuple[dict[str, Any], ...] = ()
    lease_ttl: Seconds = msgspec.field(default=Seconds(15), name="LeaseTTL")
    drain_timeout: Seconds = Seconds(30)
    development: bool = False

    @property
    def data(self) -> Path:
        return Path(self.data_dir)

    @property
    def run(self) -> Path:
        return Path(self.run_dir)

    @property
    def advertise_port(self) -> int:
        return self.advertise.port or self.ports.inbound

    @property
    def authorities(self) -> tuple[str, ...]:
        """Where this host asks for certificates, `address:port`: itself with a role, else where it joined."""
        own = self.loopback if self.bind.peer in ("0.0.0.0", "::") else self.bind.peer
        return (f"{own}:{self.ports.peer}",) if self.roles else (self.join.address,)


UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def duration(value: object) -> Seconds:
    """Raises ValueError saying what a duration looks like."""
    if isinstance(value, int | float) and not isinstance(value, bool) and value >= 0:
        return Seconds(value)
    if isinstance(value, str):
        digits = value.rstrip("abcdefghijklmnopqrstuvwxyz")
        unit = UNITS.get(value[len(digits) :])
        if unit is not None and digits.replace(".", "", 1).isdigit():
            return Seconds(float(digits) * unit)
    raise ValueError(f"{value!r} is no duration; write 15s, 500ms or 2m")


def load(
    path: Path | None, environ: Mapping[str, str], sets: Sequence[str] = (), *, hostname: str | None = None
) -> Host:
    """Read, merge and check. `hostname`: the default of `Node`. Raises ConfigError with all that is wrong."""
    return read_host(path, environ, sets, hostname=hostname)[0]


def read_host(
    path: Path | None, environ: Mapping[str, str], sets: Sequence[str] = (), *, hostname: str | None = None
) -> tuple[Host, Mapping[str, str]]:
    """As `load`; also where each setting was given, by `$.<path>`: `file:line`, a variable or a flag."""
    places: dict[str, str] = {}
    tree = read(path, places) if path else {}
    for variable in sorted(environ):
        if variable.startswith("MESHD_") and variable not in RESERVED:
            _override(tree, places, _known(variable, environ[variable]))
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise ConfigError(Fault(f"--set {text}", "no value", "write --set Ports.Api=15600"))
        _override(tree, places, (name, value, f"--set {name}"))
    faults = list(_unknown(tree, Host, "$", places))
    if faults:
        raise ConfigError(*faults)
    tree.setdefault("Node", (hostname or socket.gethostname()).split(".")[0])
    try:
        host = msgspec.convert(tree, Host, strict=True, dec_hook=_hook)
    except msgspec.ValidationError as error:
        message, _, where = str(error).partition(" - at `")
        where = where.rstrip("`") or "$"
        raise ConfigError(Fault(place_of(places, where), f"{where[2:]}: {message}")) from None
    faults = [Fault(place_of(places, "$." + key), f"{key}: {message}", hint) for key, message, hint in _check(host)]
    if faults:
        raise ConfigError(*faults)
    return host, places


def _hook(kind: type, value: object) -> object:
    if kind is Seconds:
        return duration(value)
    raise NotImplementedError(kind)


# ---- unknown keys, environment and flags --------------------------------------------------------------------------


def _unknown(tree: object, kind: Any, at: str, places: Mapping[str, str]) -> list[Fault]:
    if get_origin(kind) is tuple:
        kind = get_args(kind)[0]
        items = enumerate(tree) if isinstance(tree, list) else ()
        return [fault for number, item in items for fault in _unknown(item, kind, f"{at}[{number}]", places)]
    if not (isinstance(kind, type) and issubclass(kind, Config) and isinstance(tree, dict)):
        return []
    known = _fields(kind)
    found: list[Fault] = []
    for key, value in tree.items():
        if key in known:
            found += _unknown(value, known[key], f"{at}.{key}", places)
            continue
        near = difflib.get_close_matches(str(key), known, 1, 0.6)
        hint = f"did you mean {near[0]}?" if near else f"known here: {', '.join(known)}"
        found.append(Fault(place_of(places, f"{at}.{key}"), f"unknown key {f'{at}.{key}'[2:]}", hint))
    return found


def _fields(kind: type[Config]) -> dict[str, Any]:
    return {field.encode_name: field.type for field in msgspec.structs.fields(kind)}


def _paths(kind: type[Config] = Host, prefix: str = "") -> dict[str, Any]:
    """Every settable path (`Ports.Api`) with its type; sections themselves are not settable."""
    found: dict[str, Any] = {}
    for name, inner in _fields(kind).items():
        if isinstance(inner, type) and issubclass(inner, Config):
            found |= _paths(inner, f"{prefix}{name}.")
        else:
            found[prefix + name] = inner
    return found


def _known(variable: str, value: str) -> tuple[str, str, str]:
    for path in _paths():
        if "MESHD_" + path.replace(".", "_").upper() == variable:
            return path, value, variable
    names = ["MESHD_" + path.replace(".", "_").upper() for path in _paths()]
    near = difflib.get_close_matches(variable, names, 1, 0.6)
    raise ConfigError(Fault(variable, "no such setting", f"did you mean {near[0]}?" if near else ""))


def _override(tree: dict[str, Any], places: dict[str, str], item: tuple[str, str, str]) -> None:
    path, text, place = item
    known = _paths()
    if path not in known:
        near = difflib.get_close_matches(path, known, 1, 0.6)
        raise ConfigError(Fault(place, f"unknown key {path}", f"did you mean {near[0]}?" if near else ""))
    try:
        value = text if known[path] in (str, Seconds) else yaml.safe_load(text)
    except yaml.YAMLError:
        raise ConfigError(Fault(place, f"{path}: {text!r} is no YAML value")) from None
    *sections, last = path.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            return  # the conversion names the section that is no mapping
    tree[last] = value
    places[f"$.{path}"] = place


# ---- what types cannot say ----------------------------------------------------------------------------------------


def _check(host: Host) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    if not keys.valid_name(host.node):
        found.append(("Node", f"{host.node!r} is no node name", "letters, digits, `.`, `_` and `-`"))
    for key, address in (
        ("Loopback", host.loopback),
        ("Bind.Inbound", host.bind.inbound),
        ("Bind.Peer", host.bind.peer),
        ("Advertise.Address", host.advertise.address),
    ):
        if address and not _ip(address):
            found.append((key, f"{address!r} is no IP address", "a name cannot stand here"))
    if _ip(host.loopback) and not ipaddress.ip_address(host.loopback).is_loopback:
        found.append(("Loopback", f"{host.loopback} is not a loopback address", "127.0.0.0/8 or ::1"))
    if host.advertise.address and _ip(host.advertise.address) and not host.development:
        given = ipaddress.ip_address(host.advertise.address)
        if given.is_loopback or given.is_unspecified:
            found.append(("Advertise.Address", f"no other host reaches {given}", "only with Development: true"))
    if not 2 <= host.lease_ttl <= 3600:
        found.append(("LeaseTTL", f"{host.lease_ttl:g} s is out of range", "2s to 1h; the default is 15s"))
    if not 1 <= host.docker.interval <= 3600:
        found.append(("Docker.Interval", f"{host.docker.interval:g} s is out of range", "1s to 1h; the default is 30s"))
    if not host.docker.socket.startswith("/"):
        found.append(("Docker.Socket", f"{host.docker.socket!r} is no path", "/var/run/docker.sock"))
    return found + _check_roles(host)


def _check_roles(host: Host) -> list[tuple[str, str, str]]:
    found: list[tuple[str, str, str]] = []
    kind = host.registry.kind
    if kind == "sqlite" and "registry" not in host.roles:
        hint = "add `Roles: [registry, ca]` on the registry's host, else set Registry.Kind: mesh and its Address"
        found.append(("Registry.Kind", "sqlite is the embedded registry and needs the role registry", hint))
    if kind != "sqlite" and "registry" in host.roles:
        found.append(("Roles", f"the role registry serves sqlite, not {kind}", "remove the role or the kind"))
    if "ca" in host.roles and "registry" not in host.roles and kind in ("sqlite", "mesh"):
        found.append(("Roles", "the role ca without the role registry is not supported yet", ""))
    if kind == "mesh" and not host.registry.all_addresses:
        found.append(("Registry.Address", "missing", "address:15444 of the host with the role registry"))
    if kind in ("consul", "etcd"):
        found += [*check_server(host.registry, "Registry"), *_check_authority(host)]
    if kind != "consul" and host.registry.mode:
        found.append(("Registry.Mode", f"means nothing with Kind: {kind}", "remove it, or set Kind: consul"))
    found += check_further(host.registry, host.registries)
    if "consul" in {kind, *(one.kind for one in host.registries)} and host.lease_ttl < 10:
        found.append(("LeaseTTL", f"{host.lease_ttl:g} s: Consul's sessions take no less than 10 s", "10s or more"))
    foreign = ("TokenFile", "CAFile", "CertFile", "KeyFile") if kind in ("sqlite", "mesh") else ()
    given = show(host)["Registry"]
    for key in (*foreign, *(("Address", "Addresses") if kind == "sqlite" else ())):
        if given[key]:
            found.append(
                (f"Registry.{key}", f"means nothing with Kind: {kind}", "remove it, or set the Kind it is for")
            )
    if host.join.address and not (host.join.token_file and host.join.root_hash):
        found.append(("Join", "needs Address, TokenFile and RootHash", "`meshctl token create` prints all three"))
    if host.join.root_hash and not _hash(host.join.root_hash):
        found.append(("Join.RootHash", "is not 64 hex digits", "`meshctl ca show` prints it"))
    return found


def _check_authority(host: Host) -> list[tuple[str, str, str]]:
    """With a registry of another kind, a host must be told where the authority is."""
    if "ca" in host.roles or host.join.address:
        return []
    return [("Join.Address", "missing", "address:15444 of the host with the role ca: it renews certificates")]


def _ip(text: str) -> bool:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def _hash(text: str) -> bool:
    return len(text) == 64 and all(char in "0123456789abcdef" for char in text.lower())


def source_address(probe: str = "192.0.2.1") -> str:
    """The address that packets to other hosts leave from; empty without a route. Sends nothing (UDP connect)."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((probe, 9))
        except OSError:
            return ""
        return str(sock.getsockname()[0])


def restore(tree: Mapping[str, Any]) -> Host:
    """What `show` gave, as it came over the API. Raises msgspec.ValidationError for another version's settings."""
    return msgspec.convert(tree, Host, dec_hook=_hook)


def show(host: Host) -> Mapping[str, Any]:
    """All settings as they are in force, for `/status`; holds no secrets because settings never do."""
    tree = msgspec.to_builtins(host, enc_hook=float)
    return types.MappingProxyType(tree)
