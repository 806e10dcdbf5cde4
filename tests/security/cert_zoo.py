"""About 45 leaves that must be refused, by Python and by the proxy, as client and as server (security.md row 15).

Each specimen differs from a good leaf in one thing. `cert_pem` holds the leaf and, after it, its issuer.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID, ObjectIdentifier

DAY = 86400.0
BOTH = (ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH)
URI, DNS, OTHER = 0x86, 0x82, 0xA0  # context tags of GeneralName (RFC 5280 section 4.2.1.6)

Key = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


class Specimen(NamedTuple):
    """`why`: the rule that it breaks."""

    name: str
    cert_pem: str
    key_pem: str
    why: str


@dataclass(frozen=True)
class Plan:
    """A leaf to make. `raw_san`: DER of the SAN extension's value, None: no SAN at all."""

    raw_san: bytes | None
    key: Key
    issuer: x509.Certificate
    issuer_key: ec.EllipticCurvePrivateKey
    begin: float
    end: float
    subject: str = ""
    ca: bool | None = False
    usage: tuple[str, ...] | None = ("digital_signature",)
    purposes: tuple[ObjectIdentifier, ...] | None = BOTH
    unknown_critical: bool = False
    chain: tuple[x509.Certificate, ...] = field(default=())


def zoo(
    issuer_cert: x509.Certificate,
    issuer_key: ec.EllipticCurvePrivateKey,
    *,
    trust_domain: str = "mesh.local",
    path: str = "/svc/api/n/b/i/api-1",
    now: float | None = None,
) -> list[Specimen]:
    """All specimens, signed by `issuer_cert` unless the signature is what is wrong. `path`: of the good name."""
    now = time.time() if now is None else now
    key = ec.generate_private_key(ec.SECP256R1())
    good = f"spiffe://{trust_domain}{path}"
    base = Plan(san(good), key, issuer_cert, issuer_key, now - 600, now + DAY)
    return [
        *_names(base, good, trust_domain, path),
        *_extensions(base),
        *_keys(base),
        *_signatures(base, now),
    ]


def good(
    issuer_cert: x509.Certificate, issuer_key: ec.EllipticCurvePrivateKey, uri: str, now: float | None = None
) -> Specimen:
    """The leaf that the others differ from: it proves that a refusal is not about something else."""
    now = time.time() if now is None else now
    key = ec.generate_private_key(ec.SECP256R1())
    return _make("good", Plan(san(uri), key, issuer_cert, issuer_key, now - 600, now + DAY), "nothing")


def san(*names: str | tuple[int, bytes]) -> bytes:
    """DER of a SAN; a str is a URI, otherwise (tag, contents) as they are."""
    parts = [(URI, name.encode("utf-8")) if isinstance(name, str) else name for name in names]
    return der(0x30, b"".join(der(tag, contents) for tag, contents in parts))


def der(tag: int, contents: bytes) -> bytes:
    size = len(contents)
    length = bytes([size]) if size < 0x80 else b"\x82" + size.to_bytes(2)
    return bytes([tag]) + length + contents


def _names(base: Plan, good_uri: str, td: str, path: str) -> list[Specimen]:  # budget: a table
    other = good_uri + "-other"
    nul_name = der(0x06, bytes.fromhex("2b0601040182371402 03".replace(" ", ""))) + der(0xA0, der(0x0C, b"a\x00b"))
    plans: Sequence[tuple[str, bytes | None, str]] = [
        ("no-san", None, "no SAN"),
        ("empty-san", san(), "a SAN without names"),
        ("two-uris", san(good_uri, other), "two URI SANs (CVE-2022-40716)"),
        ("two-equal-uris", san(good_uri, good_uri), "two URI SANs, though equal"),
        ("dns-only", san((DNS, b"api.mesh.local")), "no URI SAN"),
        ("ip-only", san((0x87, b"\x7f\x00\x00\x01")), "no URI SAN"),
        ("email-only", san((0x81, b"api@mesh.local")), "no URI SAN"),
        ("uri-and-peer-dns", san(good_uri, (DNS, f"peer.{td}".encode())), "poses as a role by its DNS SAN"),
        ("uri-and-ip", san(good_uri, (0x87, b"\x7f\x00\x00\x01")), "a further name besides the URI"),
        ("nul-in-othername", san(good_uri, (OTHER, nul_name)), "otherName with NUL (CVE-2025-66220)"),
        ("nul-in-uri", san((URI, good_uri.encode() + b"\x00.evil")), "NUL in the URI"),
        ("newline-in-uri", san((URI, good_uri.encode() + b"\r\nx: y")), "line break in the URI"),
        ("non-ascii-uri", san((URI, good_uri.encode() + b"\xc3\xa4")), "bytes beyond ASCII in the URI"),
        ("uppercase-trust-domain", san(f"spiffe://{td.upper()}{path}"), "trust domains are lower case"),
        ("uppercase-scheme", san(f"SPIFFE://{td}{path}"), "compared byte by byte"),
        ("other-scheme", san(f"https://{td}{path}"), "not spiffe://"),
        ("no-scheme", san(f"//{td}{path}"), "not spiffe://"),
        ("percent", san(good_uri.replace("api", "%61pi", 1)), "percent-encoding"),
        ("trailing-slash", san(good_uri + "/"), "empty last segment"),
        ("double-slash", san(good_uri.replace("/svc/", "//svc/")), "empty segment"),
        ("dot-segment", san(f"spiffe://{td}/node/../svc/api/n/b/i/api-1"), "dot segments"),
        ("dot-name", san(f"spiffe://{td}/svc/api/n/../i/api-1"), "a name that is .."),
        ("query", san(good_uri + "?a=b"), "query"),
        ("fragment", san(good_uri + "#a"), "fragment"),
        ("userinfo", san(f"spiffe://user@{td}{path}"), "user information"),
        ("port", san(f"spiffe://{td}:443{path}"), "port"),
        ("empty-trust-domain", san(f"spiffe://{path}"), "no trust domain"),
        ("no-path", san(f"spiffe://{td}"), "no path: an authority's name"),
        ("unknown-path", san(f"spiffe://{td}/ns/default/sa/api"), "no name of the mesh"),
        ("extra-segment", san(good_uri + "/more"), "no name of the mesh"),
        ("2049-bytes", san(good_uri + "a" * (2049 - len(good_uri))), "longer than 2048 bytes"),
        *_domains(td, path),
    ]
    found = [_make(name, replace(base, raw_san=raw), why) for name, raw, why in plans]
    found.append(_make("cn-only", replace(base, raw_san=None, subject=good_uri), "a common name is no identity"))
    return found


def _domains(td: str, path: str) -> list[tuple[str, bytes, str]]:
    return [
        ("foreign-trust-domain", san(f"spiffe://other.example{path}"), "another trust domain"),
        ("trust-domain-suffix", san(f"spiffe://{td}.evil{path}"), "td against td.evil (CVE-2026-39350)"),
        ("trust-domain-prefix", san(f"spiffe://evil-{td}{path}"), "td against evil-td"),
        ("trust-domain-dot", san(f"spiffe://{td}.{path}"), "trailing dot"),
    ]


def _extensions(base: Plan) -> list[Specimen]:
    signs = ("digital_signature", "key_cert_sign")
    plans = [
        ("ca-true", replace(base, ca=True), "CA:TRUE in a leaf"),
        ("ca-true-signs", replace(base, ca=True, usage=signs), "an authority used as a leaf"),
        ("key-cert-sign", replace(base, usage=signs), "keyCertSign in a leaf"),
        ("crl-sign", replace(base, usage=("digital_signature", "crl_sign")), "cRLSign in a leaf"),
        ("no-digital-signature", replace(base, usage=("key_agreement",)), "no digitalSignature"),
        ("no-eku", replace(base, purposes=None), "no extended key usage"),
        ("server-only", replace(base, purposes=BOTH[1:]), "no clientAuth"),
        ("client-only", replace(base, purposes=BOTH[:1]), "no serverAuth"),
        ("any-eku", replace(base, purposes=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)), "anyExtendedKeyUsage"),
        ("unknown-critical", replace(base, unknown_critical=True), "an unknown critical extension"),
    ]
    return [_make(name, plan, why) for name, plan, why in plans]


def _keys(base: Plan) -> list[Specimen]:
    plans = [
        ("p384", replace(base, key=ec.generate_private_key(ec.SECP384R1())), "only ECDSA P-256"),
        ("rsa", replace(base, key=rsa.generate_private_key(65537, 2048)), "only ECDSA P-256"),
        ("ed25519", replace(base, key=ed25519.Ed25519PrivateKey.generate()), "only ECDSA P-256"),
    ]
    return [_make(name, plan, why) for name, plan, why in plans]


def _signatures(base: Plan, now: float) -> list[Specimen]:
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = _impostor(base.issuer, stranger, now)
    leaf_key = ec.generate_private_key(ec.SECP256R1())
    middle = _certificate(replace(base, key=leaf_key))
    plans = [
        ("expired", replace(base, begin=now - 10 * DAY, end=now - DAY), "expired"),
        ("not-yet-valid", replace(base, begin=now + DAY, end=now + 2 * DAY), "not valid yet"),
        ("foreign-issuer", replace(base, issuer=forged, issuer_key=stranger), "an issuer of the same name, not signed"),
        ("wrong-signature", replace(base, issuer_key=stranger), "not signed by the issuer it names"),
        (
            "signed-by-leaf",
            replace(base, issuer=middle, issuer_key=leaf_key, chain=(middle, base.issuer)),
            "a leaf that signed another",
        ),
    ]
    return [_make(name, plan, why) for name, plan, why in plans]


def _impostor(issuer: x509.Certificate, key: ec.EllipticCurvePrivateKey, now: float) -> x509.Certificate:
    name = issuer.subject
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(now - 600), UTC))
        .not_valid_after(datetime.fromtimestamp(int(now + DAY), UTC))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )


def _make(name: str, plan: Plan, why: str) -> Specimen:
    chain = (_certificate(plan), *(plan.chain or (plan.issuer,)))
    pem = "".join(certificate.public_bytes(Encoding.PEM).decode() for certificate in chain)
    key = plan.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    return Specimen(name, pem, key, why)


def _certificate(plan: Plan) -> x509.Certificate:
    subject = [x509.NameAttribute(NameOID.COMMON_NAME, plan.subject)] if plan.subject else []
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name(subject))
        .issuer_name(plan.issuer.subject)
        .public_key(plan.key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(datetime.fromtimestamp(int(plan.begin), UTC))
        .not_valid_after(datetime.fromtimestamp(int(plan.end), UTC))
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(plan.issuer_key.public_key()), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(plan.key.public_key()), critical=False)
    )
    for extension, critical in _wanted(plan):
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(plan.issuer_key, hashes.SHA256())


def _wanted(plan: Plan) -> list[tuple[x509.ExtensionType, bool]]:
    found: list[tuple[x509.ExtensionType, bool]] = []
    if plan.raw_san is not None:
        raw = x509.UnrecognizedExtension(ExtensionOID.SUBJECT_ALTERNATIVE_NAME, plan.raw_san)
        found.append((raw, not plan.subject))
    if plan.ca is not None:
        found.append((x509.BasicConstraints(ca=plan.ca, path_length=None), True))
    if plan.usage is not None:
        bits = (
            "digital_signature content_commitment key_encipherment data_encipherment key_agreement"
            " key_cert_sign crl_sign encipher_only decipher_only"
        )
        found.append((x509.KeyUsage(**{bit: bit in plan.usage for bit in bits.split()}), True))
    if plan.purposes is not None:
        found.append((x509.ExtendedKeyUsage(list(plan.purposes)), False))
    if plan.unknown_critical:
        found.append((x509.UnrecognizedExtension(ObjectIdentifier("2.25.99999"), b"\x05\x00"), True))
    return found
