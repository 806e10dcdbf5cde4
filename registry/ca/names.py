"""SPIFFE names of the mesh: built and taken apart here and nowhere else.

    spiffe://<trust-domain>/svc/<service>/n/<node>/i/<id>     one instance
    spiffe://<trust-domain>/node/<node>                       a host
    spiffe://<trust-domain>/role/<role>/<node>                a host in a role (`ca`, `registry`)

Comparison is always of whole names, byte by byte: no case folding, no percent-decoding, no prefixes.
Source: https://github.com/spiffe/spiffe/blob/main/standards/SPIFFE-ID.md (sections 2.1 to 2.3).
"""

import hashlib
import re
from typing import Literal, cast, get_args

import msgspec

from registry import keys
from registry.model import InstanceKey

DEFAULT_TRUST_DOMAIN = "mesh.local"
MAX_URI = 2048  # bytes, SPIFFE-ID section 2.3
SCHEME = "spiffe://"

Kind = Literal["service", "node", "role"]
Role = Literal["ca", "registry"]
ROLES: tuple[Role, ...] = get_args(Role)

# SPIFFE-ID section 2.1; the length limit keeps `peer.<trust-domain>` a DNS name (253 bytes, labels of 63).
_LABEL = re.compile(r"[a-z0-9_]([a-z0-9_-]{0,61}[a-z0-9_])?\Z")
_MAX_TRUST_DOMAIN = 247


class BadName(ValueError):
    """No name of the mesh; the text says what is wrong with it."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who a certificate speaks for. `service` and `id` are set for services only, `role` for roles only."""

    trust_domain: str
    kind: Kind
    node: str
    service: str = ""
    id: str = ""
    role: str = ""

    @property
    def uri(self) -> str:
        if self.kind == "service":
            return f"{SCHEME}{self.trust_domain}/svc/{self.service}/n/{self.node}/i/{self.id}"
        if self.kind == "node":
            return f"{SCHEME}{self.trust_domain}/node/{self.node}"
        return f"{SCHEME}{self.trust_domain}/role/{self.role}/{self.node}"

    @property
    def key(self) -> InstanceKey:
        """The instance's name in keys and resources. Raises BadName for nodes and roles."""
        if self.kind != "service":
            raise BadName(f"{self.uri} is no service's name")
        return InstanceKey(self.service, self.node, self.id)

    def __str__(self) -> str:
        return self.uri


def valid_trust_domain(name: str) -> bool:
    """Lower-case DNS labels, digits, `_`, `-`; no port, no user, no trailing dot."""
    return len(name) <= _MAX_TRUST_DOMAIN and all(_LABEL.match(label) for label in name.split("."))


def service(trust_domain: str, service_name: str, node: str, instance_id: str) -> Identity:
    """The identity of one instance. Raises BadName."""
    return _checked(
        Identity(trust_domain=trust_domain, kind="service", service=service_name, node=node, id=instance_id)
    )


def node(trust_domain: str, name: str) -> Identity:
    """The identity of a host. Raises BadName."""
    return _checked(Identity(trust_domain=trust_domain, kind="node", node=name))


def role(trust_domain: str, role_name: str, node_name: str) -> Identity:
    """The identity of a host in a role. Raises BadName."""
    return _checked(Identity(trust_domain=trust_domain, kind="role", role=role_name, node=node_name))


def service_id(trust_domain: str, service_name: str, node_name: str, instance_id: str) -> str:
    """The SPIFFE URI of one instance. Raises BadName."""
    return service(trust_domain, service_name, node_name, instance_id).uri


def node_id(trust_domain: str, node_name: str) -> str:
    """The SPIFFE URI of a host. Raises BadName."""
    return node(trust_domain, node_name).uri


def role_id(trust_domain: str, role_name: str, node_name: str) -> str:
    """The SPIFFE URI of a host in a role. Raises BadName."""
    return role(trust_domain, role_name, node_name).uri


def read(uri: str) -> Identity:
    """Take a SPIFFE URI apart. Raises BadName with what is wrong; what is returned has exactly `uri` as its URI."""
    if len(uri.encode("utf-8", "surrogatepass")) > MAX_URI:
        raise BadName(f"longer than {MAX_URI} bytes")
    if not uri.startswith(SCHEME):
        raise BadName(f"{uri!r} does not begin with {SCHEME}")
    trust_domain, _, path = uri[len(SCHEME) :].partition("/")
    match path.split("/"):
        case ["svc", service_name, "n", node_name, "i", instance_id]:
            return service(trust_domain, service_name, node_name, instance_id)
        case ["node", node_name]:
            return node(trust_domain, node_name)
        case ["role", role_name, node_name]:
            return role(trust_domain, role_name, node_name)
    raise BadName(f"{uri!r} is neither /svc/<service>/n/<node>/i/<id>, /node/<node> nor /role/<role>/<node>")


def parse(uri: str) -> Identity | None:
    """As `read`, None for what is no name of the mesh."""
    try:
        return read(uri)
    except BadName:
        return None


def sni(uri: str) -> str:
    """The TLS server name that leads to an identity: one label, so that no name in it can be crafted."""
    return f"i-{hashlib.sha256(uri.encode()).hexdigest()[:32]}.mesh"


def peer_name(trust_domain: str) -> str:
    """The DNS name that only role certificates carry: clients of 15444 demand it."""
    return f"peer.{trust_domain}"


def _checked(identity: Identity) -> Identity:
    if not valid_trust_domain(identity.trust_domain):
        raise BadName(
            f"trust domain {identity.trust_domain!r}: lower-case letters, digits, '-', '_' and '.' only,"
            f" at most {_MAX_TRUST_DOMAIN} bytes"
        )
    if identity.kind == "role" and cast("Role", identity.role) not in ROLES:
        raise BadName(f"role {identity.role!r} is none of {', '.join(ROLES)}")
    parts = {"node": identity.node}
    if identity.kind == "service":
        parts |= {"service": identity.service, "id": identity.id}
    for what, value in parts.items():
        if not keys.valid_name(value):
            raise BadName(f"{what} {value!r}: 1 to 128 of [A-Za-z0-9._-], not '.' or '..'")
    return identity
