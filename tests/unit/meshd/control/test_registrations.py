"""Registrations on disk: atomic, private, and never overwritten when they cannot be read."""

from pathlib import Path

import pytest

from meshd.control.registrations import File, Local, Saved, replace
from registry.errors import Unavailable
from registry.model import Check, Instance, InstanceKey

INSTANCE = Instance(
    service="web", node="a", id="web-1", address="10.0.0.1", port=80, checks=(Check(check_id="c", ttl=5.0),)
)
SAVED = Saved(local=(Local(instance=INSTANCE, app="127.0.0.1", uid=7),), withdrawals=(InstanceKey("x", "a", "y"),))


def test_what_is_saved_is_loaded(tmp_path: Path) -> None:
    file = File(tmp_path / "deep" / "registrations.json")
    assert file.load() == Saved()
    file.save(SAVED)
    assert file.load() == SAVED
    assert (tmp_path / "deep" / "registrations.json").stat().st_mode & 0o777 == 0o600
    assert [entry.name for entry in (tmp_path / "deep").iterdir()] == ["registrations.json"]


def test_an_unreadable_file_is_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "registrations.json"
    path.write_text('{"local": [')
    file = File(path)
    assert file.load() == Saved()
    assert "set aside" in file.problem
    assert (tmp_path / "registrations.json.unreadable").read_text() == '{"local": ['


def test_a_disk_that_refuses_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Unavailable):
        replace(tmp_path / "file" / "below", b"")
