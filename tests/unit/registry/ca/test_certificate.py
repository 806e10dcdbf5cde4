"""The shape of root, issuer and leaf, field by field."""

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID

from registry.ca import certificate, entitlement, names
from registry.ca.certificate import BACKDATE, DAY, Leaf, Signer, Window

NOW = 1_000_000.0
ROOT_KEY, ISSUER_KEY = certificate.new_key(), certificate.new_key()
ROOT = certificate.root(ROOT_KEY, "mesh.local", certificate.window(NOW, 3650 * DAY))
ISSUER = certificate.issuer(
    ISSUER_KEY.public_key(), "mesh.local", certificate.window(NOW, 365 * DAY, ROOT), Signer(ROOT, ROOT_KEY)
)
BY = Signer(ISSUER, ISSUER_KEY)


def leaf(identity: names.Identity, grant: entitlement.Entitlement | None = None) -> x509.Certificate:
    key = certificate.new_key().public_key()
    return certificate.leaf(Leaf(identity, key, certificate.window(NOW, 7 * DAY, ISSUER), 0xABC, grant), BY)


@pytest.mark.parametrize(("made", "path_length"), [(ROOT, None), (ISSUER, 0)])
def test_authorities(made: x509.Certificate, path_length: int | None) -> None:
    constraints = made.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert constraints.value == x509.BasicConstraints(ca=True, path_length=path_length)
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature
    san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert list(san) == [x509.UniformResourceIdentifier("spiffe://mesh.local")]
    with pytest.raises(x509.ExtensionNotFound):
        made.extensions.get_extension_for_class(x509.NameConstraints)


def test_chain_and_distinct_names() -> None:
    ROOT.verify_directly_issued_by(ROOT)
    ISSUER.verify_directly_issued_by(ROOT)
    other = certificate.root(certificate.new_key(), "mesh.local", Window(0, 1))
    assert len({ROOT.subject, ISSUER.subject, other.subject}) == 3


def test_leaf_of_a_service() -> None:
    made = leaf(names.service("mesh.local", "api", "b", "1"))
    made.verify_directly_issued_by(ISSUER)
    assert made.subject == x509.Name([])
    san = made.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    assert san.critical
    assert list(san.value) == [x509.UniformResourceIdentifier("spiffe://mesh.local/svc/api/n/b/i/1")]
    assert made.extensions.get_extension_for_class(x509.BasicConstraints).value.ca is False
    usage = made.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.digital_signature
    assert not usage.key_cert_sign
    purposes = set(made.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
    assert purposes == {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH}
    key = made.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert isinstance(key.curve, ec.SECP256R1)
    assert certificate.serial_hex(made) == "abc"


def test_only_roles_carry_the_authoritys_dns_name() -> None:
    def dns(identity: names.Identity) -> list[str]:
        san = leaf(identity).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        return san.get_values_for_type(x509.DNSName)

    assert dns(names.role("mesh.local", "ca", "a")) == ["peer.mesh.local"]
    assert dns(names.node("mesh.local", "peer.mesh.local")) == []
    assert dns(names.service("mesh.local", "peer.mesh.local", "b", "1")) == []


def test_backdated_and_never_longer_than_the_signer() -> None:
    made = leaf(names.node("mesh.local", "b"))
    assert made.not_valid_before_utc.timestamp() == NOW - BACKDATE
    assert made.not_valid_after_utc.timestamp() == NOW + 7 * DAY
    capped = certificate.window(NOW, 10_000 * DAY, ISSUER)
    assert capped.not_after == ISSUER.not_valid_after_utc.timestamp()


def test_entitlement_is_in_node_certificates() -> None:
    grant = entitlement.Entitlement(services=("api",))
    assert entitlement.decode(leaf(names.node("mesh.local", "b"), grant)) == grant
