"""Private files: modes, atomicity, pairs that survive a crash at any point."""

import os
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from registry.ca import certificate, files
from registry.ca.certificate import Window
from registry.ca.files import Credentials, Layout, Pair
from registry.errors import Corrupt, Denied, NotFound, Unavailable


def credentials() -> Credentials:
    key = certificate.new_key()
    return Credentials(key, (certificate.root(key, "td", Window(0, 1000)),))


@pytest.fixture
def pair(tmp_path: Path) -> Pair:
    return Layout(tmp_path).service("api", "api-1")


def test_layout(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    paths = [
        *(
            "node.key",
            "node.crt",
            "role.key",
            "role.crt",
            "roots.pem",
            "trust-domain",
            "svc/api/1.key",
            "svc/api/1.crt",
        ),
    ]
    made = [
        *(layout.node.key, layout.node.certificate, layout.role.key, layout.role.certificate),
        *(layout.roots, layout.trust_domain, layout.service("api", "1").key, layout.service("api", "1").certificate),
    ]
    assert made == [tmp_path / "identity" / name for name in paths]
    own = [layout.root.key, layout.root.certificate, layout.issuer.key, layout.issuer.certificate, layout.store_id]
    assert own == [tmp_path / "ca" / name for name in ("root.key", "root.crt", "issuer.key", "issuer.crt", "store-id")]


@pytest.mark.parametrize("name", ["..", ".", "a/b", "", "a\x00", "x" * 129])
def test_names_that_would_be_paths_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(Denied):
        Layout(tmp_path).service(name, "1")
    with pytest.raises(Denied):
        Layout(tmp_path).service("api", name)


def test_round_trip_and_modes(tmp_path: Path, pair: Pair) -> None:
    held = credentials()
    before = os.umask(0)
    try:
        files.save(pair, held)
    finally:
        os.umask(before)
    read = files.load(pair)
    assert read.key_pem == held.key_pem
    assert read.leaf == held.leaf
    for path in (pair.key, pair.certificate):
        assert path.stat().st_mode & 0o777 == 0o600
    for folder in (tmp_path / "identity", tmp_path / "identity" / "svc", pair.key.parent):
        assert folder.stat().st_mode & 0o777 == 0o700
    assert sorted(path.name for path in pair.key.parent.iterdir()) == ["api-1.crt", "api-1.key"]


def test_directories_that_were_open_are_closed(tmp_path: Path, pair: Pair) -> None:
    pair.key.parent.mkdir(parents=True, mode=0o755)
    files.save(pair, credentials())
    assert (tmp_path / "identity").stat().st_mode & 0o777 == 0o700
    assert tmp_path.stat().st_mode & 0o777 != 0  # the operator's own directory is left as it is


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_open_files_are_refused_with_the_command(pair: Pair, mode: int) -> None:
    files.save(pair, credentials())
    pair.key.chmod(mode)
    with pytest.raises(Denied, match=f"mode {mode:04o}.*chmod 600"):
        files.load(pair)


def test_missing_links_and_directories(tmp_path: Path, pair: Pair) -> None:
    with pytest.raises(NotFound, match="does not exist"):
        files.load(pair)
    files.save(pair, credentials())
    link = tmp_path / "link"
    link.symlink_to(pair.key)
    with pytest.raises(Unavailable):
        files.read(link)
    with pytest.raises(Denied, match="no regular file"):
        files.read(tmp_path)


def test_foreign_owner_is_refused(pair: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    files.save(pair, credentials())
    owner = pair.key.stat().st_uid
    if owner == 0:  # root's files serve everybody; a stranger's do not serve root
        os.chown(pair.key, 12345, -1)
        owner = 12345
    else:
        monkeypatch.setattr(os, "geteuid", lambda: owner + 1)
    with pytest.raises(Denied, match=f"belongs to uid {owner}"):
        files.read(pair.key)


def test_a_key_of_another_certificate(pair: Pair) -> None:
    files.save(pair, credentials())
    files.write(pair.certificate, credentials().chain_pem.encode())
    with pytest.raises(Corrupt, match="does not belong to"):
        files.load(pair)


@pytest.mark.parametrize("step", [1, 2])
def test_a_crash_while_saving_leaves_a_pair_that_loads(pair: Pair, step: int) -> None:
    old, new = credentials(), credentials()
    files.save(pair, old)
    files.write(pair.next_key, new.key_pem.encode())
    if step == 2:
        files.write(pair.certificate, new.chain_pem.encode())
    found = files.load(pair)
    assert found.leaf == (new.leaf if step == 2 else old.leaf)
    assert files.load(pair).leaf == found.leaf


def test_a_crash_at_the_very_first_save(pair: Pair) -> None:
    new = credentials()
    files.write(pair.next_key, new.key_pem.encode())
    with pytest.raises(NotFound):
        files.load(pair)
    files.write(pair.certificate, new.chain_pem.encode())
    assert files.load(pair).leaf == new.leaf


def test_a_waiting_key_that_fits_nothing(pair: Pair) -> None:
    files.save(pair, credentials())
    files.write(pair.certificate, credentials().chain_pem.encode())
    files.write(pair.next_key, credentials().key_pem.encode())
    with pytest.raises(Corrupt):
        files.load(pair)


def test_contents_that_are_none(pair: Pair, tmp_path: Path) -> None:
    files.save(pair, credentials())
    for bad in (b"", b"secret-looking garbage", _p384()):
        files.write(pair.key, bad)
        with pytest.raises(Corrupt) as caught:
            files.load(pair)
        assert "secret-looking" not in str(caught.value)
    for bad in (b"", b"-----BEGIN CERTIFICATE-----x-----END CERTIFICATE-----"):
        files.write(pair.certificate, bad)
        with pytest.raises(Corrupt, match=r"api-1\.crt"):
            files.load(pair)


def test_trust_domain(tmp_path: Path) -> None:
    layout = Layout(tmp_path)
    files.save_trust(layout, credentials().chain, "mesh.local")
    assert files.load_trust_domain(layout) == "mesh.local"
    assert len(files.read_certificates(layout.roots)) == 1
    files.write(layout.trust_domain, b"Not A Domain")
    with pytest.raises(Corrupt, match="no trust domain"):
        files.load_trust_domain(layout)


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "identity").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        files.write(Layout(tmp_path).roots, b"")
    blocked = Layout(tmp_path / "other").node
    blocked.key.mkdir(parents=True)
    with pytest.raises(Unavailable, match=r"node\.key"):
        files.save(blocked, credentials())


def test_forget(pair: Pair) -> None:
    files.save(pair, credentials())
    files.forget(pair)
    files.forget(pair)
    assert list(pair.key.parent.iterdir()) == []


def _p384() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
