"""Requests: a key and its proof."""

import base64

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding

from registry.ca import certificate, csr


def test_the_key_comes_out() -> None:
    key = certificate.new_key()
    assert csr.read(csr.make(key)) == key.public_key()
    assert len(csr.fingerprint(key.public_key())) == 64


def test_without_proof_of_possession_it_is_refused() -> None:
    """Somebody else's public key with a signature that is not theirs."""
    request = x509.load_pem_x509_csr(csr.make(certificate.new_key()).encode())
    der = bytearray(request.public_bytes(Encoding.DER))
    der[-3] ^= 1
    pem = "-----BEGIN CERTIFICATE REQUEST-----\n" + base64.encodebytes(bytes(der)).decode()
    with pytest.raises(csr.BadCsr, match="not signed by the key"):
        csr.read(pem + "-----END CERTIFICATE REQUEST-----\n")


@pytest.mark.parametrize(
    "key",
    [
        ec.generate_private_key(ec.SECP384R1()),
        rsa.generate_private_key(65537, 2048),
        ed25519.Ed25519PrivateKey.generate(),
    ],
    ids=["p384", "rsa", "ed25519"],
)
def test_other_keys_are_refused(key: ec.EllipticCurvePrivateKey) -> None:
    algorithm = None if isinstance(key, ed25519.Ed25519PrivateKey) else hashes.SHA256()
    request = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, algorithm)
    with pytest.raises(csr.BadCsr, match="P-256"):
        csr.read(request.public_bytes(Encoding.PEM).decode())


@pytest.mark.parametrize(
    "text", ["", "x", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END", "a" * 9000, "\ud800"[:0]]
)
def test_what_is_no_request_is_refused(text: str) -> None:
    with pytest.raises(csr.BadCsr):
        csr.read(text)
