"""One throw-away authority and a certificate each for `web` and `api`: what the peers' mutual TLS is made of."""

import datetime
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

DAY = datetime.timedelta(days=1)


@dataclass(frozen=True)
class Certificates:
    """`ca.crt`, and `web` and `api` each as .crt, .key and .pem (both in one file, as HAProxy wants it)."""

    directory: Path

    def __truediv__(self, name: str) -> Path:
        return self.directory / name


def make(directory: Path) -> Certificates:
    directory.mkdir(parents=True, exist_ok=True)
    root_key = ec.generate_private_key(ec.SECP256R1())
    root_name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench root")])
    root = (
        _builder(root_name, root_name, root_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(root_key, hashes.SHA256())
    )
    (directory / "ca.crt").write_bytes(root.public_bytes(serialization.Encoding.PEM))
    for name in ("web", "api"):
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.UniformResourceIdentifier(f"spiffe://mesh.local/svc/{name}"), x509.DNSName(f"{name}.mesh")]
        usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
        leaf = (
            _builder(subject, root_name, key.public_key())
            .add_extension(x509.SubjectAlternativeName(names), critical=False)
            .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
            .sign(root_key, hashes.SHA256())
        )
        _write(directory, name, leaf, key)
    return Certificates(directory)


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - DAY)
        .not_valid_after(now + DAY)
    )


def _write(directory: Path, name: str, leaf: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    certificate = leaf.public_bytes(serialization.Encoding.PEM)
    secret = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    (directory / f"{name}.crt").write_bytes(certificate)
    (directory / f"{name}.key").write_bytes(secret)
    (directory / f"{name}.pem").write_bytes(certificate + secret)
