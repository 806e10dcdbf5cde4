"""Entitlements: what goes into a certificate comes out, and names match whole."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from hypothesis import given
from hypothesis import strategies as st

from registry.ca import certificate, entitlement, names
from registry.ca.certificate import Leaf, Signer, Window
from registry.ca.entitlement import BadEntitlement, Entitlement

NAME = st.from_regex(r"[A-Za-z0-9_-]{1,40}\Z", fullmatch=True)
KEY = certificate.new_key()
ROOT = certificate.root(KEY, "td", Window(0, 1000))


def leaf(grant: Entitlement | None) -> x509.Certificate:
    return certificate.leaf(Leaf(names.node("td", "a"), KEY.public_key(), Window(0, 1000), 5, grant), Signer(ROOT, KEY))


def raw(value: bytes) -> x509.Certificate:
    """A certificate with these bytes as its entitlement, as only a faulty authority would make it."""
    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(ROOT.subject)
        .public_key(KEY.public_key())
        .serial_number(7)
        .not_valid_before(ROOT.not_valid_before_utc)
        .not_valid_after(ROOT.not_valid_after_utc)
        .add_extension(x509.UnrecognizedExtension(entitlement.OID, value), critical=False)
    )
    return builder.sign(KEY, hashes.SHA256())


@given(st.lists(NAME, max_size=60), st.booleans())
def test_round_trip_in_every_length(services: list[str], role: bool) -> None:
    grant = Entitlement(services=tuple(services), roles=("ca",) if role else ())
    read = entitlement.decode(leaf(grant))
    assert set(read.services) == set(services)
    assert read.roles == grant.roles


def test_no_extension_entitles_to_nothing() -> None:
    assert entitlement.decode(leaf(None)) == Entitlement()
    assert not Entitlement().allows_service("api")
    assert not Entitlement(services=("*",)).allows_role("ca")


def test_names_match_whole() -> None:
    grant = Entitlement(services=("a.b", "web"), roles=("registry",))
    assert grant.allows_service("a.b")
    assert not grant.allows_service("axb")
    assert not grant.allows_service("web-2")
    assert not grant.allows_service("*")
    assert Entitlement(services=("*",)).allows_service("anything")
    assert grant.allows_role("registry")


@pytest.mark.parametrize(
    "grant",
    [
        Entitlement(services=("a/b",)),
        Entitlement(services=("a*",)),
        Entitlement(roles=("root",)),
        Entitlement(services=tuple(f"s{n}" for n in range(257))),
        Entitlement(services=tuple(f"s{n:03d}" + "x" * 124 for n in range(256))),
    ],
)
def test_bad_or_huge_entitlements_are_not_written(grant: Entitlement) -> None:
    if len(grant.services) == 256:
        assert set(entitlement.decode(leaf(grant)).services) == set(grant.services)
        return
    with pytest.raises(BadEntitlement):
        leaf(grant)


GOOD = b'{"Services":["api"]}'


@pytest.mark.parametrize(
    "value",
    [
        b"",
        b"\x0c",
        b"\x04" + bytes([len(GOOD)]) + GOOD,
        b"\x0c" + bytes([len(GOOD)]) + GOOD + b" ",
        b"\x0c\x81" + bytes([len(GOOD)]) + GOOD,
        b"\x0c" + bytes([len(GOOD) + 1]) + GOOD,
        b"\x0c\x02{}extra",
        b'\x0c\x14{"Services": ["api"]}',
        b'\x0c\x18{"Services":["api","api"]}',
        b'\x0c\x11{"Services":["/"]}',
        b'\x0c\x0b{"Other":[]}',
        b"\x0c\x01\xff",
    ],
)
def test_extension_in_another_form_is_refused(value: bytes) -> None:
    with pytest.raises(BadEntitlement):
        entitlement.decode(raw(value))


def test_the_good_form_is_read() -> None:
    value = b"\x0c" + bytes([len(GOOD)]) + GOOD
    assert entitlement.decode(raw(value)) == Entitlement(services=("api",))
