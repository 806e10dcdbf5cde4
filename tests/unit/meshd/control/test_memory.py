"""What a restart must not forget."""

from pathlib import Path

from meshd.control.memory import Memory, Remembered


def test_it_remembers_and_writes_changes_only(tmp_path: Path) -> None:
    memory = Memory(tmp_path / "memory.json")
    assert memory.load() == Remembered()
    assert memory.save({"x": b"\x00{}"}, frozenset({"api"}), {"api": "http"})
    assert not memory.save({"x": b"\x00{}"}, frozenset({"api"}), {"api": "http"})
    again = Memory(tmp_path / "memory.json")
    assert again.load() == Remembered({"x": b"\x00{}"}, frozenset({"api"}), {"api": "http"})
    assert again.problem == ""


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "memory.json").write_text("{")
    memory = Memory(tmp_path / "memory.json")
    assert memory.load() == Remembered()
    assert "memory.json" in memory.problem
