"""Join and operator tokens: short statements signed by an issuer of the authority.

    mesh1.<base64url of canonical JSON>.<base64url of r || s>

ES256 (RFC 7518 section 3.4) over a context line and the JSON's bytes. Exactly one spelling of a token is accepted:
canonical JSON, unpadded base64url without spare bits, low `s`; so a changed token is a refused token, and the id of
a used token cannot be dodged. The text is a secret: it goes into no log, only its `id` does.
"""

import base64
import re
from collections.abc import Iterable

import msgspec
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, utils

from registry import keys
from registry.ca import csr, rotation
from registry.ca.certificate import Signer
from registry.ca.entitlement import Entitlement, problem

PREFIX = "mesh1"
MAX_TOKEN = 32 * 1024
MAX_TTL = 30 * 86400.0  # an operator's token that lives longer than its purpose is a password
_CONTEXT = b"meshd token v1\n"
_TEXT = re.compile(r"mesh1\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_-]{86})\Z")
_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551  # of P-256
_ID = re.compile(r"[0-9a-f]{32}\Z")


class BadToken(ValueError):
    """The token counts for nothing; the text says why, what to do, and holds no part of the token but its id."""


class _Claims(
    msgspec.Struct,
    frozen=True,
    kw_only=True,
    forbid_unknown_fields=True,
    tag_field="kind",
    omit_defaults=True,
):
    """`id` 32 hex digits; `issuer` first 32 hex digits of the signing key's SHA-256; `expires` Unix seconds."""

    id: str
    issuer: str
    trust_domain: str
    expires: int


class Join(_Claims, frozen=True, kw_only=True, tag="join"):
    """One host may join once as `node`, entitled to `services` and `roles`."""

    node: str
    services: tuple[str, ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def grant(self) -> Entitlement:
        return Entitlement(services=self.services, roles=self.roles)


class Operator(_Claims, frozen=True, kw_only=True, tag="operator"):
    """The bearer may write policy, configuration and revocations until it expires; `name` goes into the history."""

    name: str


Claims = Join | Operator


def issuer_id(certificate: x509.Certificate) -> str:
    """How tokens name the key that signed them. Stays the same when the issuer's certificate is renewed."""
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # certificate.issuer makes no others
    return csr.fingerprint(key)[:32]


def refusal(claims: Claims) -> str | None:
    """What is wrong with what a token says; None: nothing."""
    if not _ID.match(claims.id):
        return "its id is not 32 hex digits"
    if isinstance(claims, Operator):
        return None if keys.valid_name(claims.name) else f"name {claims.name!r}: letters, digits, '.', '_', '-'"
    if not keys.valid_name(claims.node):
        return f"node {claims.node!r}: letters, digits, '.', '_', '-'"
    return problem(claims.grant)


def sign(claims: Claims, signer: Signer) -> str:
    """The token's text. Raises BadToken for claims that no verifier would take."""
    why = refusal(claims)
    if why:
        raise BadToken(why)
    payload = msgspec.json.encode(claims, order="sorted")
    r, s = utils.decode_dss_signature(signer.key.sign(_CONTEXT + payload, ec.ECDSA(hashes.SHA256())))
    signature = r.to_bytes(32) + min(s, _ORDER - s).to_bytes(32)
    return f"{PREFIX}.{_encode(payload)}.{_encode(signature)}"


def verify(text: str, issuers: Iterable[x509.Certificate], trust_domain: str, now: float) -> Claims:
    """What a token says, if one of the authority's `issuers` signed it and it has not expired. Raises BadToken."""
    match = _TEXT.match(text) if len(text) <= MAX_TOKEN else None
    if match is None:
        raise BadToken("no token of the mesh (mesh1.….…): copy it whole, without blanks or line breaks")
    payload, signature = _decode(match[1]), _decode(match[2])
    claims = _read(payload)
    known = {issuer_id(certificate): certificate for certificate in issuers}
    certificate = known.get(claims.issuer)
    if certificate is None or not _signed(payload, signature, certificate):
        raise BadToken("not signed by this authority: make one where the authority runs (meshctl token create)")
    if claims.trust_domain != trust_domain:
        raise BadToken(f"token {claims.id} is for trust domain {claims.trust_domain!r}, not {trust_domain!r}")
    if now >= claims.expires:
        raise BadToken(
            f"token {claims.id} expired at {rotation.stamp(claims.expires)}, the authority's clock says"
            f" {rotation.stamp(now)}: make a new one (meshctl token create)"
        )
    why = refusal(claims)
    if why:
        raise BadToken(f"token {claims.id}: {why}")
    return claims


class Operators:
    """Checks bearer tokens of operators on any host: `issuers` are the authority's, from the host's own chain."""

    def __init__(self, trust_domain: str, issuers: Iterable[x509.Certificate]) -> None:
        self._trust_domain = trust_domain
        self._issuers = tuple(issuers)

    def verify(self, text: str, now: float) -> str | None:
        """The operator's name, or None: not a valid operator token (expired, foreign, a join token, garbage)."""
        try:
            claims = verify(text, self._issuers, self._trust_domain, now)
        except BadToken:
            return None
        return claims.name if isinstance(claims, Operator) else None


def _read(payload: bytes) -> Claims:
    try:
        claims: Claims = msgspec.json.decode(payload, type=Claims)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadToken("its contents are no claims of this version") from error
    if msgspec.json.encode(claims, order="sorted") != payload:
        raise BadToken("its contents are not in canonical form")
    return claims


def _signed(payload: bytes, signature: bytes, issuer: x509.Certificate) -> bool:
    key = issuer.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)  # issuer_id() has looked already
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:])
    if s > _ORDER // 2:
        return False
    try:
        key.verify(utils.encode_dss_signature(r, s), _CONTEXT + payload, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    """Strict: exactly the spelling that `_encode` makes. The alphabet is checked before."""
    if len(text) % 4 == 1:
        raise BadToken("cut off or damaged: copy it whole")
    data = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    if _encode(data) != text:
        raise BadToken("damaged: copy it whole")
    return data
