"""What a node certificate lets its host ask for: an extension that only the authority writes.

The extension's value is a DER UTF8String holding canonical JSON (sorted keys, no blanks), non-critical so that
foreign TLS stacks pass it by. The OID is of the UUID arc (ITU-T X.667), which needs no registration.
"""

import msgspec
from cryptography import x509

from registry import keys
from registry.ca import names

OID = x509.ObjectIdentifier("2.25.126505720139718581505608329664182258577")  # 5f2c1d8e-7b1a-4e57-9d2b-6a0c3f4e8b91
ANY = "*"
MAX_SERVICES = 256
_UTF8_STRING = 0x0C
_MAX_BYTES = 0xFFFF


class BadEntitlement(ValueError):
    """The extension or the asked-for entitlement is malformed."""


class Entitlement(
    msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True, omit_defaults=True
):
    """`services`: exact names, or `*` for any; `roles`: of `registry.ca.names.ROLES`. Nothing listed: nothing."""

    services: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    def allows_service(self, service: str) -> bool:
        """Exact names only: `web` does not cover `web-2`, and a dot is a dot."""
        return ANY in self.services or service in self.services

    def allows_role(self, role: str) -> bool:
        return role in self.roles


def problem(entitlement: Entitlement) -> str | None:
    """What is wrong with an entitlement, in words; None: nothing."""
    if len(entitlement.services) > MAX_SERVICES:
        return f"more than {MAX_SERVICES} services: use '*'"
    for service in entitlement.services:
        if service != ANY and not keys.valid_name(service):
            return f"service {service!r}: a name of [A-Za-z0-9._-], or '*' alone"
    for role in entitlement.roles:
        if role not in names.ROLES:
            return f"role {role!r} is none of {', '.join(names.ROLES)}"
    return None


def encode(entitlement: Entitlement) -> x509.UnrecognizedExtension:
    """The extension of a node certificate. Raises BadEntitlement."""
    why = problem(entitlement)
    if why:
        raise BadEntitlement(why)
    text = _canonical(entitlement)
    return x509.UnrecognizedExtension(OID, bytes([_UTF8_STRING]) + _der_length(len(text)) + text)


def decode(certificate: x509.Certificate) -> Entitlement:
    """The entitlement of a certificate; none there: entitled to nothing. Raises BadEntitlement."""
    try:
        extension = certificate.extensions.get_extension_for_oid(OID).value
    except x509.ExtensionNotFound:
        return Entitlement()
    if not isinstance(extension, x509.UnrecognizedExtension):  # pragma: no cover - cryptography knows no such OID
        raise BadEntitlement("the extension is of another kind")
    try:
        entitlement = msgspec.json.decode(_contents(extension.value), type=Entitlement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadEntitlement(f"the extension holds no entitlement: {error}") from error
    why = problem(entitlement)
    if why:
        raise BadEntitlement(why)
    if encode(entitlement).value != extension.value:
        raise BadEntitlement("the extension is not in canonical form")
    return entitlement


def _canonical(entitlement: Entitlement) -> bytes:
    return msgspec.json.encode(
        Entitlement(services=tuple(sorted(set(entitlement.services))), roles=tuple(sorted(set(entitlement.roles)))),
        order="sorted",
    )


def _der_length(length: int) -> bytes:
    if length < 0x80:
        return bytes([length])
    if length > _MAX_BYTES:
        raise BadEntitlement("too long for a certificate")
    return bytes([0x82]) + length.to_bytes(2) if length > 0xFF else bytes([0x81, length])


def _contents(value: bytes) -> bytes:
    """The bytes of a DER UTF8String; `decode` compares the whole again, so this needs no strictness of its own."""
    if len(value) < 2 or value[0] != _UTF8_STRING:
        raise BadEntitlement("the extension is no UTF8String")
    octets = value[1] & 0x7F if value[1] & 0x80 else 0
    return value[2 + octets :]
