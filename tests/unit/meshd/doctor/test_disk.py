from pathlib import Path

import pytest

from meshd.doctor import disk
from registry import snapshot
from registry.ca.files import Layout
from registry.ca.init import First, init
from registry.snapshot import Snapshot

NOW = 1_795_435_200.0


@pytest.mark.parametrize(("free", "verdict"), [(10 << 30, "ok"), (100 << 20, "warn"), (1 << 20, "fail")])
def test_room(free: int, verdict: str, tmp_path: Path) -> None:
    assert disk.room(free, tmp_path).verdict == verdict


def test_before_the_first_start(tmp_path: Path) -> None:
    (check,) = disk.examine(tmp_path / "none", NOW)
    assert check.verdict == "warn"


def test_what_others_may_read_is_named(tmp_path: Path) -> None:
    init(tmp_path, First("a"), NOW)
    tmp_path.chmod(0o755)
    assert disk.open_to_others(tmp_path) == ()
    Layout(tmp_path).node.key.chmod(0o640)
    (tmp_path / "identity").chmod(0o755)
    (tmp_path / "documents.json").write_text("{}")
    (tmp_path / "documents.json").chmod(0o604)
    found = disk.modes(disk.open_to_others(tmp_path), tmp_path)
    assert found.verdict == "fail"
    assert found.seen == "open to others: documents.json, identity/, identity/node.key"


@pytest.mark.parametrize(("age", "verdict"), [(5, "ok"), (7200, "warn"), (8 * 86400, "fail")])
def test_the_age_of_the_snapshot(tmp_path: Path, age: float, verdict: str) -> None:
    init(tmp_path, First("a"), NOW)
    saved = Snapshot(node="a", trust_domain="mesh.local", heard=NOW, index=12)
    snapshot.write(tmp_path / "snapshot", saved, Layout(tmp_path))
    check = disk.saved(tmp_path, NOW + age)
    assert check.verdict == verdict
    assert "index 12" in check.seen


def test_no_snapshot_and_a_spoilt_one(tmp_path: Path) -> None:
    init(tmp_path, First("a"), NOW)
    assert disk.saved(tmp_path, NOW).verdict == "warn"
    (tmp_path / "snapshot").write_text("meshd-saved-snapshot 1 AAAA\n{}")
    assert disk.saved(tmp_path, NOW).verdict == "fail"
