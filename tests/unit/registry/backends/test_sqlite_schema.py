import sqlite3
import stat
from pathlib import Path

import pytest

from registry.backends import sqlite_schema
from registry.errors import Corrupt, Unavailable


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


def test_a_new_file_is_private_durable_and_of_this_schema(path: Path) -> None:
    db = sqlite_schema.connect(path)
    values = {
        name: db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous", "user_version")
    }
    assert values == {"journal_mode": "wal", "synchronous": 2, "user_version": sqlite_schema.SCHEMA}
    assert {stat.S_IMODE(file.stat().st_mode) for file in path.parent.iterdir()} == {0o600}
    db.close()


def test_what_was_committed_is_there_again(path: Path) -> None:
    first = sqlite_schema.connect(path)
    first.execute("UPDATE meta SET value = 7 WHERE name = 'index'")
    first.close()
    second = sqlite_schema.connect(path)
    assert second.execute("SELECT value FROM meta WHERE name = 'index'").fetchone() == (7,)
    second.close()


def test_a_second_owner_is_refused_and_told_why(path: Path) -> None:
    first = sqlite_schema.connect(path)
    with pytest.raises(Unavailable, match=r"registry\.db.*another process has it open"):
        sqlite_schema.connect(path)
    first.close()


def test_a_missing_directory_is_named(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"nowhere/registry\.db: No such file.*check that its directory exists"):
        sqlite_schema.connect(tmp_path / "nowhere" / "registry.db")


def test_a_file_that_is_no_database_is_corrupt(path: Path) -> None:
    path.write_bytes(b"not a database at all, but long enough to be read as one" * 100)
    with pytest.raises(Corrupt, match=r"registry\.db: damaged .*restore a backup"):
        sqlite_schema.connect(path)


def test_a_damaged_page_is_found_when_opening(path: Path) -> None:
    db = sqlite_schema.connect(path)
    rows = [(f"k{n}", b"x" * 500, n, n, 0, None, 0) for n in range(200)]
    db.executemany("INSERT INTO entries VALUES (?, ?, ?, ?, ?, ?, ?)", rows)
    db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    db.close()
    content = bytearray(path.read_bytes())
    content[4096 * 12 : 4096 * 20] = b"\xff" * 4096 * 8
    path.write_bytes(content)
    with pytest.raises(Corrupt, match="damaged"):
        sqlite_schema.connect(path)


def test_a_file_of_a_later_version_is_left_alone(path: Path) -> None:
    db = sqlite_schema.connect(path)
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(Corrupt, match=r"schema 99.*start the version that wrote it"):
        sqlite_schema.connect(path)


@pytest.mark.parametrize(
    ("name", "kind", "words"),
    [
        ("SQLITE_FULL", Unavailable, "free space"),
        ("SQLITE_IOERR_FSYNC", Unavailable, "kernel log"),
        ("SQLITE_READONLY_DBMOVED", Unavailable, "check owner and mount"),
        ("SQLITE_CORRUPT_INDEX", Corrupt, "restore a backup"),
        ("SQLITE_NOTADB", Corrupt, "restore a backup"),
        ("SQLITE_MISUSE", Unavailable, "SQLITE_MISUSE"),
    ],
)
def test_every_error_names_the_file_and_the_next_step(name: str, kind: type[Exception], words: str) -> None:
    error = sqlite3.OperationalError("what sqlite says")
    error.sqlite_errorname = name
    explained = sqlite_schema.explain(Path("data/registry.db"), error)
    assert type(explained) is kind
    assert "data/registry.db" in str(explained)
    assert words in str(explained)


def test_an_error_without_a_name_is_told_by_its_type() -> None:
    explained = sqlite_schema.explain(Path("r.db"), sqlite3.ProgrammingError("closed"))
    assert str(explained) == "r.db: ProgrammingError: closed"
