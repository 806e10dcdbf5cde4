"""What is saved comes back as it was; what is not this host's own, or was touched, does not come back at all."""

import time
from pathlib import Path

import msgspec
import pytest

from registry import keys, snapshot
from registry.ca.files import Layout
from registry.ca.init import First, init
from registry.errors import Corrupt, Denied, NotFound, Unavailable
from registry.fold import Fold
from registry.interest import EVERYTHING
from registry.snapshot import Snapshot, capture
from registry.store import Batch, Resync
from tests.unit.registry import made


@pytest.fixture(scope="module")
def layout(tmp_path_factory: pytest.TempPathFactory) -> Layout:
    return host(tmp_path_factory.mktemp("a"), "a")


def host(folder: Path, name: str) -> Layout:
    init(folder, First(name), time.time())
    return Layout(folder)


def lived() -> Fold:
    """A fold with one of everything; `gone` has vanished."""
    fold = Fold()
    web, gone = made.instance(), made.instance(id="gone")
    listed = {
        keys.SERVICES: (made.stored(web), made.stored(gone)),
        keys.POLICY: (made.entry(keys.policy("service-router", "web"), b"{}", 7),),
        keys.CONFIG: (made.entry(keys.policy("mesh", "mesh"), b"{}", 8),),
        keys.LEASES: (made.entry(keys.lease("a"), b"x"),),
        keys.CA_ROOTS: (made.entry(keys.CA_ROOTS + "r", b"\x00root"),),
        keys.REVOCATIONS: (made.entry(keys.REVOCATIONS + "1", b"{}"),),
    }
    for prefix in EVERYTHING:
        fold.apply(prefix, Resync(9, listed.get(prefix, ())), 0.0)
    fold.apply(keys.SERVICES, Batch(10, (), (made.key(gone),)), 1.0)
    return fold


def taken(node: str = "a") -> Snapshot:
    return capture(lived(), node=node, trust_domain="mesh.local", index=10, heard=1000.0)


def test_a_new_fold_is_what_the_old_one_was(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, taken(), layout)
    assert path.stat().st_mode & 0o777 == 0o600
    found = snapshot.read(path, layout)
    before, after = lived(), Fold()
    after.restore(found.entries(), found.vanished, 0.0)
    for what in ("instances", "leases", "documents", "roots", "revocations"):
        assert getattr(after, what) == getattr(before, what)
    assert after.endpoints("web", 0.0) == before.endpoints("web", 1.0)
    assert {one.instance.id: one.state for one in after.endpoints("web", 0.0)} == {
        "gone": "suspect",
        "web-1": "passing",
    }
    assert (found.index, found.heard) == (10, 1000.0)


@pytest.mark.parametrize("at", [0, 30, 60, -2])
def test_one_changed_byte_is_refused(layout: Layout, tmp_path: Path, at: int) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, taken(), layout)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(Corrupt):
        snapshot.read(path, layout)


def test_another_hosts_key_is_refused(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, taken(), host(tmp_path / "other", "a"))
    with pytest.raises(Corrupt, match="not signed by this host's key"):
        snapshot.read(path, layout)


def test_a_snapshot_that_names_another_host_is_refused(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, taken(node="b"), layout)
    with pytest.raises(Corrupt, match="of host b"):
        snapshot.read(path, layout)


def test_a_signed_file_of_a_later_format_is_refused(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    snapshot.write(path, taken(), layout)
    path.write_bytes(path.read_bytes().replace(b"snapshot 1 ", b"snapshot 2 ", 1))
    with pytest.raises(Corrupt, match="version that is known"):
        snapshot.read(path, layout)


def test_what_the_schema_does_not_know_is_refused(layout: Layout) -> None:
    from registry.ca import files, svid

    class Other(msgspec.Struct):
        node: str = "a"

    key = files.read_key(layout.node.key)
    holder = svid.read(files.read_certificates(layout.node.certificate)[0], "mesh.local")
    with pytest.raises(Corrupt, match="cannot be read"):
        snapshot.unseal(snapshot.seal(Other(), key), holder)  # type: ignore[arg-type] - another program's struct


def test_absent_open_to_others_and_unwritable_are_named(layout: Layout, tmp_path: Path) -> None:
    path = tmp_path / "snapshot"
    with pytest.raises(NotFound):
        snapshot.read(path, layout)
    snapshot.write(path, taken(), layout)
    path.chmod(0o644)
    with pytest.raises(Denied, match="chmod 600"):
        snapshot.read(path, layout)
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(Unavailable):
        snapshot.write(blocked / "snapshot", taken(), layout)
