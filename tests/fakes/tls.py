"""TLS between a test's client and a server of this process, with certificates that sign themselves."""

import ssl
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class Pair:
    """A certificate and its key in one PEM file; `der` as the other side sees it."""

    path: Path
    der: bytes


def pair(directory: Path, name: str) -> Pair:
    """For `name` as host name and common name; valid now."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    builder = builder.serial_number(x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(hours=1))
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    path = directory / f"{name}.pem"
    path.write_bytes(private + certificate.public_bytes(serialization.Encoding.PEM))
    return Pair(path, certificate.public_bytes(serialization.Encoding.DER))


def server_context(own: Pair, clients: list[Pair]) -> ssl.SSLContext:
    """Takes these clients' certificates, and callers without one."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(own.path)
    context.verify_mode = ssl.CERT_OPTIONAL
    for client in clients:
        context.load_verify_locations(client.path)
    return context


def client_context(server: Pair, own: Pair | None) -> ssl.SSLContext:
    """Trusts this server alone."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(server.path)
    if own is not None:
        context.load_cert_chain(own.path)
    return context
