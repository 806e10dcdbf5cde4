"""Roots: tolerant of how people write PEM, strict about who adds one (linkerd2#3880, #4287)."""

import itertools

import msgspec
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from registry.ca import bundle, certificate
from registry.ca.certificate import Signer, Window
from registry.errors import Corrupt

NOW = 1_000_000.0


def root(domain: str = "td", end: float = NOW + 1000) -> Signer:
    key = certificate.new_key()
    return Signer(certificate.root(key, domain, Window(NOW - 1000, end)), key)


A, B, C = root(), root(), root()
PEM_A = bundle.write_pem([A.certificate]).encode()
PEM_B = bundle.write_pem([B.certificate]).encode()


@pytest.mark.parametrize(
    "text",
    [
        PEM_A + PEM_B,
        PEM_A + b"\n\n\n" + PEM_B + b"\n \n",
        (PEM_A + PEM_B).replace(b"\n", b"\r\n"),
        b"# the old root\n" + PEM_A + b"subject=CN = x\r\n" + PEM_B,
        PEM_A + PEM_B + PEM_A,
        (PEM_A + PEM_B).rstrip(b"\n"),
        b"\xef\xbb\xbf" + PEM_A + PEM_B,
    ],
)
def test_pem_as_people_write_it(text: bytes) -> None:
    assert bundle.read_pem(text) == (A.certificate, B.certificate)


def test_order_is_kept_and_nothing_is_nothing() -> None:
    assert bundle.read_pem(PEM_B + PEM_A) == (B.certificate, A.certificate)
    assert bundle.read_pem(b"no certificate") == ()


@pytest.mark.parametrize("inside", [b"!!!", b"AAAA", b"", PEM_A[40:200]])
def test_a_broken_block_is_named(inside: bytes) -> None:
    text = PEM_A + b"-----BEGIN CERTIFICATE-----" + inside + b"-----END CERTIFICATE-----"
    with pytest.raises(Corrupt, match="certificate 2"):
        bundle.read_pem(text)


def test_too_long_a_text_is_refused() -> None:
    with pytest.raises(Corrupt, match="longer"):
        bundle.read_pem(b" " * 300_000)


def accept(trusted: list[Signer], statements: dict[str, bytes], now: float = NOW) -> tuple[set[str], dict[str, str]]:
    roots, problems = bundle.accept([item.certificate for item in trusted], statements, "td", now)
    return {name for name, item in (("A", A), ("B", B), ("C", C)) if item.certificate in roots}, problems


def add(new: Signer, by: Signer) -> bytes:
    return bundle.sign("add", new.certificate, by.certificate, by.key)


def retire(old: Signer, by: Signer) -> bytes:
    return bundle.sign("retire", old.certificate, by.certificate, by.key)


def test_a_trusted_root_adds_another_which_adds_a_third_in_any_order() -> None:
    statements = {"x": add(B, A), "y": add(C, B), "z": bundle.publish(A.certificate)}
    for order in itertools.permutations(statements.values()):
        found, problems = accept([A], dict(zip("xyz", order, strict=True)))
        assert found == {"A", "B", "C"}
        assert problems == {}


def test_what_no_trusted_root_signed_is_refused() -> None:
    found, problems = accept([A], {"self": add(B, B), "plain": bundle.publish(C.certificate), "pem": PEM_B})
    assert found == {"A"}
    assert set(problems) == {"self", "plain", "pem"}


def test_a_statement_is_not_reusable_for_another_root_or_action() -> None:
    good = msgspec.json.decode(add(B, A), type=bundle.Statement)
    forged = {
        "root": msgspec.json.encode(msgspec.structs.replace(good, certificate=PEM_A.decode())),
        "action": msgspec.json.encode(msgspec.structs.replace(good, action="retire")),
        "signature": msgspec.json.encode(msgspec.structs.replace(good, signature="!")),
        "two": msgspec.json.encode(msgspec.structs.replace(good, certificate=(PEM_A + PEM_B).decode())),
    }
    forged["c"] = msgspec.json.encode(msgspec.structs.replace(good, certificate=bundle.write_pem([C.certificate])))
    assert accept([A], forged)[0] == {"A"}
    assert set(accept([A], forged)[1]) == {"c", "action", "signature", "two"}


def test_retirement_needs_another_trusted_root_and_wins() -> None:
    assert accept([A], {"1": add(B, A), "2": retire(A, B), "3": add(A, B)})[0] == {"B"}
    assert accept([A, B], {"2": retire(A, A)})[0] == {"A", "B"}
    assert accept([A], {"2": retire(A, B)})[0] == {"A"}
    assert accept([A, B], {"1": retire(A, B), "2": retire(B, A)})[0] == {"B"}
    assert accept([A, B], {})[0] == {"A", "B"}


def test_roots_that_cannot_be_one_are_refused_though_signed() -> None:
    issuer = certificate.issuer(B.key.public_key(), "td", Window(NOW - 1, NOW + 1), A)
    cases = {
        "foreign": bundle.sign("add", root("td.evil").certificate, A.certificate, A.key),
        "expired": bundle.sign("add", root(end=NOW - 1).certificate, A.certificate, A.key),
        "issuer": bundle.sign("add", issuer, A.certificate, A.key),
        "leaf": bundle.sign("add", _self_signed_leaf(), A.certificate, A.key),
    }
    found, problems = accept([A], cases)
    assert found == {"A"}
    assert set(problems) == set(cases)
    assert "expired at" in problems["expired"]
    assert "'td.evil'" in problems["foreign"]


def test_trust_domain_is_read_from_the_root() -> None:
    assert bundle.trust_domain(A.certificate) == "td"
    with pytest.raises(Corrupt):
        bundle.trust_domain(_self_signed_leaf())
    with pytest.raises(Corrupt):
        bundle.trust_domain(certificate.root(A.key, "td/x", Window(0, 1)))


def _self_signed_leaf() -> x509.Certificate:
    key = certificate.new_key()
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(x509.Name([]))
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(A.certificate.not_valid_before_utc)
        .not_valid_after(A.certificate.not_valid_after_utc)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
