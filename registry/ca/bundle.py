"""Roots: reading them from PEM as people write it, and when a further one is trusted.

A host trusts the root that its join was pinned to. `ca/roots/<id>` in the store are *statements*; one counts only
if a root that is trusted already signed it, so whoever can write to the store adds no trust and takes none away:
deleting a key does nothing, retirement is a signed statement too.
"""

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime
from typing import Literal, cast

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from registry.ca import names
from registry.errors import Corrupt

MAX_PEM = 256 * 1024
_BLOCK = re.compile(rb"-----BEGIN CERTIFICATE-----(.*?)-----END CERTIFICATE-----", re.DOTALL)
_CONTEXT = b"meshd root statement v1\n"  # domain separation: a root's signature here is one nowhere else


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    """The value of `ca/roots/<id>`. `by`: hash of the signing root; `signature`: base64 of ECDSA over SHA-256.

    The first root's statement is unsigned (`by` empty): it serves people, no host believes it.
    """

    action: Literal["add", "retire"]
    certificate: str
    by: str = ""
    signature: str = ""


_Item = tuple[Statement, x509.Certificate]


def read_pem(text: bytes) -> tuple[x509.Certificate, ...]:
    """All certificates in order, each once; comments, CRLF, blank and trailing lines do not matter.

    Raises Corrupt naming the block that is none (linkerd2#3880 is the bug that this tolerance avoids).
    """
    if len(text) > MAX_PEM:
        raise Corrupt(f"certificates: longer than {MAX_PEM} bytes")
    found: dict[bytes, x509.Certificate] = {}
    for number, block in enumerate(_BLOCK.findall(text), start=1):
        try:
            der = base64.b64decode(b"".join(block.split()), validate=True)
            found.setdefault(der, x509.load_der_x509_certificate(der))
        except (binascii.Error, ValueError) as error:
            raise Corrupt(f"certificate {number} of the PEM text cannot be read: {error}") from error
    return tuple(found.values())


def write_pem(certificates: Iterable[x509.Certificate]) -> str:
    return "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in certificates)


def root_hash(certificate: x509.Certificate) -> str:
    """SHA-256 of the DER form, 64 hex digits: what operators hand to a joining host as RootHash."""
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def trust_domain(root: x509.Certificate) -> str:
    """The trust domain that a root was made for, from its one URI SAN. Raises Corrupt."""
    try:
        san = root.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        uris = san.get_values_for_type(x509.UniformResourceIdentifier)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, ValueError) as error:
        raise Corrupt(f"root {root_hash(root)}: no readable SAN: {error}") from error
    name = uris[0].removeprefix(names.SCHEME) if len(uris) == 1 and uris[0].startswith(names.SCHEME) else ""
    if not names.valid_trust_domain(name):
        raise Corrupt(f"root {root_hash(root)}: its URI SANs {uris} do not name one trust domain")
    return name


def refusal(root: x509.Certificate, domain: str, now: float) -> str | None:
    """Why a certificate cannot be a root of this trust domain; None: it can. `now` is Unix seconds."""
    try:
        constraints = root.extensions.get_extension_for_class(x509.BasicConstraints).value
        usage = root.extensions.get_extension_for_class(x509.KeyUsage).value
        root.verify_directly_issued_by(root)
        named = trust_domain(root)
    except (x509.ExtensionNotFound, x509.DuplicateExtension, InvalidSignature, ValueError, TypeError, Corrupt) as error:
        return f"no root certificate: {error or type(error).__name__}"
    if not constraints.ca or not usage.key_cert_sign:
        return "no root certificate: it may not sign certificates"
    if named != domain:
        return f"made for trust domain {named!r}, not {domain!r}"
    if root.not_valid_after_utc < datetime.fromtimestamp(now, UTC):
        return f"expired at {root.not_valid_after_utc.isoformat()}"
    return None


def publish(root: x509.Certificate) -> bytes:
    """The unsigned statement of the first root."""
    return msgspec.json.encode(Statement(action="add", certificate=write_pem([root])))


def sign(
    action: Literal["add", "retire"], root: x509.Certificate, by: x509.Certificate, key: ec.EllipticCurvePrivateKey
) -> bytes:
    """A statement about `root`, signed by the root `by`."""
    signature = key.sign(_message(action, root), ec.ECDSA(hashes.SHA256()))
    return msgspec.json.encode(
        Statement(
            action=action,
            certificate=write_pem([root]),
            by=root_hash(by),
            signature=base64.b64encode(signature).decode(),
        )
    )


def accept(
    trusted: Iterable[x509.Certificate], statements: Mapping[str, bytes], domain: str, now: float
) -> tuple[tuple[x509.Certificate, ...], dict[str, str]]:
    """(roots trusted now, why each other statement does not count). The order of statements does not matter.

    Additions may build on one another. Retirement wins over addition, needs another trusted root's signature, and
    never takes the last root.
    """
    known = {root_hash(root): root for root in trusted}
    problems: dict[str, str] = {}
    read: dict[str, _Item] = {}
    for key, value in sorted(statements.items()):
        try:
            read[key] = _read(value)
        except Corrupt as error:
            problems[key] = str(error)
    _add(known, read, problems, lambda root: refusal(root, domain, now))
    retired: set[str] = set()
    for key, item in read.items():
        if item[0].action == "retire":
            target = root_hash(item[1])
            why = _unsigned(item, {h: root for h, root in known.items() if h != target and h not in retired})
            if why:
                problems[key] = why
            else:
                retired.add(target)
    return tuple(root for h, root in known.items() if h not in retired), problems


def _add(
    known: dict[str, x509.Certificate],
    read: Mapping[str, _Item],
    problems: dict[str, str],
    refused: Callable[[x509.Certificate], str | None],
) -> None:
    """Put into `known` what its roots, old and just added, have signed; say in `problems` why the rest stays out."""
    pending = {k: item for k, item in read.items() if item[0].action == "add" and root_hash(item[1]) not in known}
    while ready := [key for key, item in pending.items() if _unsigned(item, known) is None]:
        for key in ready:
            root = pending.pop(key)[1]
            why = refused(root)
            if why:
                problems[key] = why
            else:
                known[root_hash(root)] = root
    problems |= {key: _unsigned(item, known) or "" for key, item in pending.items()}


def _read(value: bytes) -> _Item:
    try:
        statement = msgspec.json.decode(value, type=Statement)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"no root statement: {error}") from error
    certificates = read_pem(statement.certificate.encode())
    if len(certificates) != 1:
        raise Corrupt(f"a root statement holds one certificate, not {len(certificates)}")
    return statement, certificates[0]


def _message(action: str, root: x509.Certificate) -> bytes:
    return _CONTEXT + action.encode() + b"\n" + root.public_bytes(Encoding.DER)


def _unsigned(item: _Item, trusted: Mapping[str, x509.Certificate]) -> str | None:
    """Why no trusted root stands behind a statement; None: one does."""
    statement, root = item
    signer = trusted.get(statement.by)
    if signer is None:
        return "not signed by a root that is trusted here"
    try:
        signature = base64.b64decode(statement.signature, validate=True)
        key = cast("ec.EllipticCurvePublicKey", signer.public_key())
        key.verify(signature, _message(statement.action, root), ec.ECDSA(hashes.SHA256()))
    except (binascii.Error, ValueError, InvalidSignature):
        return f"its signature is not that of root {statement.by}"
    return None
