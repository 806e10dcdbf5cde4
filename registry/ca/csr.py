"""Certificate signing requests: a public key and the proof that the sender holds its private half.

Everything else in a request (subject, SANs, extensions) is ignored on purpose: the authority decides the name
(SPIRE CVE-2021-27098, Consul CVE-2022-40716 came from reading it).
"""

import hashlib

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

MAX_CSR = 8 * 1024  # a P-256 request is about 500 bytes


class BadCsr(ValueError):
    """The request cannot be used; the text says why."""


def make(key: ec.EllipticCurvePrivateKey) -> str:
    """A request (PEM) for `key` that asks for no name."""
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return request.public_bytes(Encoding.PEM).decode()


def read(text: str) -> ec.EllipticCurvePublicKey:
    """The key of a request whose signature proves possession. Raises BadCsr."""
    if len(text) > MAX_CSR:
        raise BadCsr(f"the request is longer than {MAX_CSR} bytes")
    try:
        request = x509.load_pem_x509_csr(text.encode())
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise BadCsr(f"no PEM certificate request: {error}") from error
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadCsr("the key must be ECDSA P-256")
    try:
        proven = request.is_signature_valid
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        proven = False
    if not proven:
        raise BadCsr("the request is not signed by the key it carries")
    return key


def fingerprint(key: ec.EllipticCurvePublicKey) -> str:
    """SHA-256 of the public key (SubjectPublicKeyInfo), hex."""
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).hexdigest()
