"""Reading leaves (the zoo of bad ones is in tests/security/test_certificates.py)."""

import time
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from registry.ca import certificate, files, svid
from tests.fakes.authority import World, world
from tests.security import cert_zoo


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("ca"))


def test_node_and_role_are_read(made: World) -> None:
    node = svid.read(files.load(made.layout.node).leaf, "mesh.local")
    assert node.identity.uri == "spiffe://mesh.local/node/a"
    assert node.not_before < time.time() < node.not_after
    assert node.serial == certificate.serial_hex(node.certificate)
    assert node.key == files.load(made.layout.node).key.public_key()
    role = files.load(made.layout.role).leaf
    assert svid.read_der(role.public_bytes(Encoding.DER), "mesh.local").identity.role == "ca"


def test_chain_up_to_a_root(made: World, tmp_path: Path) -> None:
    held, roots = files.load(made.layout.node), files.read_certificates(made.layout.roots)
    now = time.time()
    assert svid.verify(held.chain, roots, "mesh.local", now).identity.node == "a"
    foreign = files.read_certificates(world(tmp_path).layout.roots)
    for chain, trusted, at in (
        (held.chain, foreign, now),
        (held.chain[:1], roots, now),
        (held.chain, (), now),
        (held.chain, roots, now + 31 * 86400),
        ((), roots, now),
    ):
        with pytest.raises(svid.BadSvid):
            svid.verify(chain, trusted, "mesh.local", at)
    assert svid.verify(held.chain, (*foreign, *roots), "mesh.local", now).identity.node == "a"


def test_authorities_and_garbage_are_no_leaves(made: World) -> None:
    for authority in (made.layout.root, made.layout.issuer):
        with pytest.raises(svid.BadSvid):
            svid.read(files.load(authority).leaf, "mesh.local")
    for der in (b"", b"\x30\x00", b"x" * 100):
        with pytest.raises(svid.BadSvid, match="cannot be read"):
            svid.read_der(der, "mesh.local")


def test_reasons_name_the_rule(made: World) -> None:
    issuer = files.load(made.layout.issuer)
    found = {item.name: item for item in cert_zoo.zoo(issuer.leaf, issuer.key)}
    for name, reason in (
        ("two-uris", "exactly one URI SAN is wanted, there are 2"),
        ("trust-domain-suffix", "of trust domain 'mesh.local.evil'"),
        ("ca-true", "CA:TRUE"),
        ("no-eku", "missing"),
        ("newline-in-uri", r"api-1\\r\\n"),
    ):
        leaf = x509.load_pem_x509_certificates(found[name].cert_pem.encode())[0]
        with pytest.raises(svid.BadSvid, match=reason):
            svid.read(leaf, "mesh.local")
