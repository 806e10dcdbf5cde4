"""The key layout (`kv.md`). Every key is built and taken apart here and nowhere else."""

import re

PREFIX = "mesh/v1/"

CONFIG = PREFIX + "config/"
POLICY = PREFIX + "policy/"
SERVICES = PREFIX + "services/"
LEASES = PREFIX + "leases/"
NODES = PREFIX + "nodes/"
CA = PREFIX + "ca/"
CA_ROOTS = PREFIX + "ca/roots/"
CA_REPLICAS = PREFIX + "ca/replicas/"
CA_ISSUED = PREFIX + "ca/issued/"
CA_TOKENS_USED = PREFIX + "ca/tokens/used/"
REVOCATIONS = PREFIX + "revocations/"
STATUS = PREFIX + "status/proxies/"
HISTORY = PREFIX + "history/"
SESSIONS = PREFIX + "sessions/"  # on etcd: what a lease is called, and what its end does
STORE_ID = PREFIX + "store-id"

KEY = re.compile(r"[A-Za-z0-9._/-]{1,512}\Z")
NAME = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")
DOTS = re.compile(r"\.{1,2}\Z")
# the star of `history/<kind>/web-*/<doc_version>`
PATTERN_VERSION = re.compile(r"\*(?=/(?:[0-9]*|deleted)\Z)")


def valid_key(key: str) -> bool:
    """The alphabet that stays writable on every store, without empty, `.` or `..` segments (CVE-2025-11392).

    `*` may only end a document's name (`policy/<kind>/*`, `policy/<kind>/web-*`, and in `history/`).
    """
    if key.startswith(POLICY):
        key = key.removesuffix("*")
    elif key.startswith(HISTORY):
        key = PATTERN_VERSION.sub("x", key)
    if KEY.match(key) is None:
        return False
    segments = key.removesuffix("/").split("/")
    return all(segment and DOTS.match(segment) is None for segment in segments)


def valid_name(name: str) -> bool:
    """Services, nodes and instance ids: one path segment."""
    return NAME.match(name) is not None and DOTS.match(name) is None


def valid_document_name(name: str) -> bool:
    """A document is about one service, about all that begin so (`web-*`), or about all (`*`)."""
    return name == "*" or valid_name(name.removesuffix("*"))


def is_key(selector: str) -> bool:
    """A selector is one exact key, or else a prefix: those end in `/` (or are empty)."""
    return bool(selector) and not selector.endswith("/")


def covers(selector: str, key: str) -> bool:
    """Does a selector speak of a key (or of all that a narrower selector speaks of)?"""
    return selector == key if is_key(selector) else key.startswith(selector)


def selectors_of(selector: str) -> tuple[str, ...]:
    """Every selector that covers a key, or all that a selector speaks of: itself, and each prefix above it."""
    return (selector, *wider(selector))


def wider(selector: str) -> tuple[str, ...]:
    """Each prefix above a selector, without itself."""
    parts = selector.removesuffix("/").split("/")
    return ("", *("/".join((*parts[:depth], "")) for depth in range(1, len(parts))))


def instance(service: str, node: str, instance_id: str) -> str:
    return f"{SERVICES}{service}/{node}/{instance_id}"


def parse_instance(key: str) -> tuple[str, str, str] | None:
    """(service, node, id) of an instance's key, or None when the key is no instance's."""
    parts = key[len(SERVICES) :].split("/") if key.startswith(SERVICES) else []
    return (parts[0], parts[1], parts[2]) if len(parts) == 3 and all(map(valid_name, parts)) else None


def parse_name(prefix: str, key: str) -> str | None:
    """The one name behind a prefix (`leases/<node>`, `nodes/<node>`, `revocations/<id>`), or None."""
    name = key.removeprefix(prefix)
    return name if key.startswith(prefix) and valid_name(name) else None


def lease(node: str) -> str:
    return LEASES + node


def node(name: str) -> str:
    return NODES + name


def status(name: str) -> str:
    return STATUS + name


def policy(kind: str, name: str) -> str:
    """`mesh` has one document, `config/mesh`; all others live below `policy/<kind>/`."""
    return CONFIG + "mesh" if kind == "mesh" else f"{POLICY}{kind}/{name}"


def parse_policy(key: str) -> tuple[str, str] | None:
    """(kind, name) of a document's key, or None when the key is no document's."""
    if key == CONFIG + "mesh":
        return "mesh", "mesh"
    if not key.startswith(POLICY):
        return None
    kind, _, name = key[len(POLICY) :].partition("/")
    return (kind, name) if kind and valid_document_name(name) else None


def history(kind: str, name: str, doc_version: int) -> str:
    return f"{HISTORY}{kind}/{name}/{doc_version}"


def deletion(kind: str, name: str) -> str:
    """Says which version of the document was last deleted on purpose."""
    return f"{HISTORY}{kind}/{name}/deleted"
