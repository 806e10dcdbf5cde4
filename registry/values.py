"""Stored bytes to values and back: the one door for what others wrote into the store.

Writers of the registry are not trusted: a value is taken only if it has the schema, agrees with its key and holds
names, ports and strings that are safe to pass on (to headers, logs and SNI). Everything else is `Corrupt`.
"""

import ipaddress
from collections.abc import Callable, Iterable

import msgspec

from registry import keys
from registry.errors import Corrupt
from registry.model import Address, Document, Instance, Node
from registry.store import Entry

MAX_DOCUMENT = 256 * 1024  # bytes
MAX_STRINGS = 64 * 1024  # characters of tags and metadata together: endpoints of a mesh are held by every host
MAX_WEIGHT = 65_535  # Consul's limit


def write(value: Instance | Node) -> bytes:
    """The stored form: CamelCase JSON in field order, so that equal values have equal bytes."""
    return msgspec.json.encode(value)


def read_instance(key: str, value: bytes) -> Instance:
    """The instance at `services/<service>/<node>/<id>`. Raises Corrupt naming the key and what is wrong."""
    try:
        found = msgspec.json.decode(value, type=Instance)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{key}: {error}") from error
    if keys.instance(found.service, found.node, found.id) != key:
        raise Corrupt(f"{key}: holds {found.key}, another instance's document")
    for what, fault in _instance_faults(found):
        if fault:
            raise Corrupt(f"{key}: {what}")
    return found


def read_document(entry: Entry) -> Document:
    """The document at `policy/<kind>/<name>` or `config/mesh`, its text unread. Raises Corrupt naming the key."""
    name = keys.parse_policy(entry.key)
    if name is None:
        raise Corrupt(f"{entry.key}: is no document's key: policy/<kind>/<name> or config/mesh")
    if len(entry.value) > MAX_DOCUMENT:
        raise Corrupt(f"{entry.key}: {len(entry.value)} bytes, {MAX_DOCUMENT} at most")
    return Document(kind=name[0], name=name[1], text=entry.value, version=entry.version)


def opaque(prefix: str) -> Callable[[Entry], bytes]:
    """Reads values that mean nothing here, below keys of one name."""

    def read(entry: Entry) -> bytes:
        if keys.parse_name(prefix, entry.key) is None:
            raise Corrupt(f"{entry.key}: is not {prefix}<id>")
        return entry.value

    return read


def read_node(key: str, value: bytes) -> Node:
    """The host at `nodes/<node>`. Raises Corrupt naming the key and what is wrong."""
    try:
        found = msgspec.json.decode(value, type=Node)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"{key}: {error}") from error
    if keys.node(found.name) != key or not keys.valid_name(found.name):
        raise Corrupt(f"{key}: holds host {found.name!r}")
    if not (_is_ip(found.address) and _is_port(found.inbound_port)):
        raise Corrupt(f"{key}: {found.address!r} port {found.inbound_port} is no address")
    if not _clean([found.version, *found.roles, *found.meta, *found.meta.values()]):
        raise Corrupt(f"{key}: control characters or too long")
    return found


def _instance_faults(found: Instance) -> Iterable[tuple[str, bool]]:
    names = (found.service, found.node, found.id)
    yield "bad service, node or id", not all(keys.valid_name(name) for name in names)
    yield f"bad address {found.address!r}", not (_is_ip(found.address) or keys.valid_name(found.address))
    yield f"bad port {found.port}", not _is_port(found.port)
    yield "bad Inbound", found.inbound is not None and not _is_address(found.inbound)
    yield "bad Weights", not all(0 <= w <= MAX_WEIGHT for w in (found.weights.passing, found.weights.warning))
    upstreams = found.mesh.upstreams
    yield "bad Mesh.Upstreams", not all(keys.valid_name(u.service) and _is_port(u.local_bind_port) for u in upstreams)
    texts = [found.reason, *found.tags]
    for table in (found.meta, found.node_meta):
        texts += [*table, *table.values()]
    yield "control characters in tags, metadata or reason, or too much of them", not _clean(texts)


def _is_address(address: Address) -> bool:
    return _is_ip(address.address) and _is_port(address.port)


def _is_port(port: int) -> bool:
    return 0 < port < 65_536


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return "%" not in address  # a zone means nothing on another host


def _clean(texts: Iterable[str]) -> bool:
    known = list(texts)
    return sum(map(len, known)) <= MAX_STRINGS and all(text.isprintable() for text in known)
