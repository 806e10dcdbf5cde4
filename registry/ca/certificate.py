"""How certificates of the mesh are made: root, issuer and leaf, and nothing else (SPIFFE X509-SVID, sections 3-4).

Subjects of leaves are empty: no TLS stack can fall back from the SAN to a common name that a node chose.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from registry.ca import csr, entitlement, names

DAY = 86400.0
BACKDATE = 600.0  # clocks of hosts differ by up to 10 minutes and everything still works (linkerd2#3980)


@dataclass(frozen=True)
class Lifetimes:
    """Seconds. `offline`: the most that a renewal without the store adds from now."""

    root: float = 3650 * DAY
    issuer: float = 365 * DAY
    node: float = 30 * DAY
    role: float = 30 * DAY
    service: float = 7 * DAY
    offline: float = 1 * DAY


@dataclass(frozen=True)
class Window:
    """Validity, Unix seconds; X.509 keeps whole seconds."""

    not_before: float
    not_after: float


@dataclass(frozen=True)
class Signer:
    """A certificate that may sign, and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


@dataclass(frozen=True)
class Leaf:
    """What a leaf shall say. `grant` is for node certificates only."""

    identity: names.Identity
    key: ec.EllipticCurvePublicKey
    window: Window
    serial: int
    grant: entitlement.Entitlement | None = None


def new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def window(now: float, lifetime: float, signer: x509.Certificate | None = None) -> Window:
    """From 10 minutes ago for `lifetime` seconds from now, never longer than the signer lives."""
    end = now + lifetime
    if signer is not None:
        end = min(end, signer.not_valid_after_utc.timestamp())
    return Window(now - BACKDATE, end)


def root(key: ec.EllipticCurvePrivateKey, trust_domain: str, valid: Window) -> x509.Certificate:
    """A self-signed root that names its trust domain, so that its hash pins both."""
    name = _name("root", key.public_key())
    return _authority(key.public_key(), trust_domain, valid, name, None).issuer_name(name).sign(key, hashes.SHA256())


def issuer(key: ec.EllipticCurvePublicKey, trust_domain: str, valid: Window, by: Signer) -> x509.Certificate:
    """An issuing certificate of path length 0: it signs leaves, never another authority.

    No name constraints: URI constraints are refused by webpki (RUSTSEC-2026-0098).
    """
    builder = _authority(key, trust_domain, valid, _name("issuer", key), 0).issuer_name(by.certificate.subject)
    builder = builder.add_extension(_authority_key(by), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def leaf(spec: Leaf, by: Signer) -> x509.Certificate:
    """A leaf with exactly one URI SAN; roles carry the authority's DNS name besides. Raises BadEntitlement."""
    sans: list[x509.GeneralName] = [x509.UniformResourceIdentifier(spec.identity.uri)]
    if spec.identity.kind == "role":
        sans.append(x509.DNSName(names.peer_name(spec.identity.trust_domain)))
    builder = (
        _builder(spec.key, spec.window)
        .serial_number(spec.serial)
        .subject_name(x509.Name([]))
        .issuer_name(by.certificate.subject)
        .add_extension(x509.SubjectAlternativeName(sans), critical=True)  # RFC 5280: critical if the subject is empty
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(_authority_key(by), critical=False)
    )
    if spec.grant is not None:
        builder = builder.add_extension(entitlement.encode(spec.grant), critical=False)
    return builder.sign(by.key, hashes.SHA256())


def serial_hex(certificate: x509.Certificate) -> str:
    """Lower hex without leading zeros: the form in logs, keys and revocations."""
    return f"{certificate.serial_number:x}"


def _builder(key: ec.EllipticCurvePublicKey, valid: Window) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .public_key(key)
        .not_valid_before(datetime.fromtimestamp(int(valid.not_before), UTC))
        .not_valid_after(datetime.fromtimestamp(int(valid.not_after), UTC))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _authority(
    key: ec.EllipticCurvePublicKey, trust_domain: str, valid: Window, name: x509.Name, path_length: int | None
) -> x509.CertificateBuilder:
    uri = x509.UniformResourceIdentifier(names.SCHEME + trust_domain)
    return (
        _builder(key, valid)
        .serial_number(x509.random_serial_number())
        .subject_name(name)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
        .add_extension(_usage(signs=True), critical=True)
    )


def _name(what: str, key: ec.EllipticCurvePublicKey) -> x509.Name:
    """Distinct per key: chains are found by name, and two roots of one trust domain live side by side."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"meshd {what} {csr.fingerprint(key)[:16]}")])


def _authority_key(by: Signer) -> x509.AuthorityKeyIdentifier:
    return x509.AuthorityKeyIdentifier.from_issuer_public_key(by.key.public_key())


def _usage(*, signs: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs,
        key_cert_sign=signs,
        crl_sign=signs,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )
