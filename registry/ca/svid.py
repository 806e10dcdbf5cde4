"""Reading certificates: who does this one speak for, or why for nobody.

TLS libraries check chains and times; none of them knows SPIFFE names, so the name is read here and only here in
Python (the proxy has its twin). Rules: SPIFFE X509-SVID sections 2 to 5, stricter where the mesh needs no more.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509 import verification
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID

from registry.ca import names
from registry.ca.certificate import serial_hex
from registry.ca.entitlement import OID as ENTITLEMENT

_UNDERSTOOD = {  # any other critical extension refuses the certificate (RFC 5280 section 4.2)
    ExtensionOID.SUBJECT_ALTERNATIVE_NAME,
    ExtensionOID.BASIC_CONSTRAINTS,
    ExtensionOID.KEY_USAGE,
    ExtensionOID.EXTENDED_KEY_USAGE,
    ENTITLEMENT,
}
_BOTH = {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}


class BadSvid(ValueError):
    """The certificate speaks for nobody; the text says why, without any byte of it unquoted."""


@dataclass(frozen=True)
class Svid:
    """A well-formed leaf. `serial` lower hex, times Unix seconds. Says nothing about chain, time or revocation."""

    identity: names.Identity
    serial: str
    not_before: float
    not_after: float
    certificate: x509.Certificate

    @property
    def key(self) -> ec.EllipticCurvePublicKey:
        key = self.certificate.public_key()
        assert isinstance(key, ec.EllipticCurvePublicKey)  # read() refused the others
        return key


def read(certificate: x509.Certificate, trust_domain: str) -> Svid:
    """The identity of a leaf of `trust_domain` (compared exactly). Raises BadSvid."""
    try:
        extensions = certificate.extensions
        if certificate.version is not x509.Version.v3:
            raise BadSvid("not an X.509 version 3 certificate")
        _check_key(certificate.public_key())
    except (ValueError, UnsupportedAlgorithm, x509.DuplicateExtension) as error:
        raise error if isinstance(error, BadSvid) else BadSvid(f"cannot be read: {error}") from error
    _check_usage(extensions)
    identity = _identity(extensions, trust_domain)
    return Svid(
        identity=identity,
        serial=serial_hex(certificate),
        not_before=certificate.not_valid_before_utc.timestamp(),
        not_after=certificate.not_valid_after_utc.timestamp(),
        certificate=certificate,
    )


def read_der(der: bytes, trust_domain: str) -> Svid:
    """As `read`, from the bytes of a TLS peer (`getpeercert(binary_form=True)`). Raises BadSvid."""
    try:
        certificate = x509.load_der_x509_certificate(der)
    except ValueError as error:
        raise BadSvid(f"cannot be read: {error}") from error
    return read(certificate, trust_domain)


def verify(chain: Iterable[x509.Certificate], roots: Iterable[x509.Certificate], trust_domain: str, at: float) -> Svid:
    """Check leaf, issuer and signature up to one of `roots` at a moment (Unix seconds). Raises BadSvid.

    For certificates that come as text: on connections TLS has done this before anybody reads a name.
    """
    certificates = tuple(chain)
    if not certificates:
        raise BadSvid("no certificate")
    svid = read(certificates[0], trust_domain)
    trusted = list(roots)
    if not trusted:
        raise BadSvid(f"{svid.identity}: no root is trusted here")
    builder = verification.PolicyBuilder().store(verification.Store(trusted))
    verifier = builder.time(datetime.fromtimestamp(at, UTC)).max_chain_depth(1).build_client_verifier()
    try:
        verifier.verify(certificates[0], list(certificates[1:3]))
    except verification.VerificationError as error:
        raise BadSvid(f"{svid.identity}: its chain does not lead to a trusted root: {error}") from error
    return svid


def _check_key(key: object) -> None:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadSvid("the key is not ECDSA P-256")


def _check_usage(extensions: x509.Extensions) -> None:
    for extension in extensions:
        if extension.critical and extension.oid not in _UNDERSTOOD:
            raise BadSvid(f"critical extension {extension.oid.dotted_string} is not understood")
    try:
        if extensions.get_extension_for_class(x509.BasicConstraints).value.ca:
            raise BadSvid("an authority's certificate (CA:TRUE), not a leaf")
        usage = extensions.get_extension_for_class(x509.KeyUsage).value
        purposes = set(extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    except x509.ExtensionNotFound as error:
        raise BadSvid(f"extension missing: {error}") from error
    if not usage.digital_signature or usage.key_cert_sign or usage.crl_sign:
        raise BadSvid("key usage must be digitalSignature and must not sign certificates or CRLs")
    if not purposes >= _BOTH:
        raise BadSvid("extended key usage must hold both clientAuth and serverAuth")


def _identity(extensions: x509.Extensions, trust_domain: str) -> names.Identity:
    try:
        sans = tuple(extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    except x509.ExtensionNotFound as error:
        raise BadSvid("no subject alternative name") from error
    uris = [san.value for san in sans if isinstance(san, x509.UniformResourceIdentifier)]
    if len(uris) != 1:
        raise BadSvid(f"exactly one URI SAN is wanted, there are {len(uris)}")
    try:
        identity = names.read(uris[0])
    except names.BadName as error:
        raise BadSvid(f"no name of the mesh: {error}") from error
    if identity.trust_domain != trust_domain:
        raise BadSvid(f"of trust domain {identity.trust_domain!r}, not {trust_domain!r}")
    others = [san for san in sans if not isinstance(san, x509.UniformResourceIdentifier)]
    allowed = [x509.DNSName(names.peer_name(trust_domain))] if identity.kind == "role" else []
    if others != allowed:
        raise BadSvid(f"{identity.kind} certificates carry {len(allowed)} further names, there are {len(others)}")
    return identity
