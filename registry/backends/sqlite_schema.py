"""The database file of the embedded store: tables, opening and what SQLite's errors mean to an operator.

https://www.sqlite.org/wal.html, https://www.sqlite.org/rescode.html
"""

import os
import sqlite3
from pathlib import Path

from registry.errors import Corrupt, RegistryError, Unavailable

SCHEMA = 1  # in `PRAGMA user_version`

TABLES = """
CREATE TABLE meta (name TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE entries (
  key TEXT PRIMARY KEY, value BLOB NOT NULL, version INTEGER NOT NULL, created INTEGER NOT NULL,
  flags INTEGER NOT NULL, lease TEXT, lock_index INTEGER NOT NULL
);
CREATE INDEX entries_lease ON entries (lease) WHERE lease IS NOT NULL;
CREATE TABLE tombstones (key TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;
CREATE INDEX tombstones_version ON tombstones (version);
CREATE TABLE leases (
  id TEXT PRIMARY KEY, name TEXT NOT NULL, ttl REAL NOT NULL, behavior TEXT NOT NULL, created INTEGER NOT NULL
) WITHOUT ROWID;
-- index: of the last write. floor: no prefix's index is below it (what pruned tombstones said).
INSERT INTO meta VALUES ('index', 1), ('floor', 1);
"""

NEXT_STEP = {
    "SQLITE_FULL": "the disk is full: free space; writes work again without a restart",
    "SQLITE_READONLY": "the file or its directory cannot be written: check owner and mount",
    "SQLITE_CANTOPEN": "the file cannot be opened: check that its directory exists and belongs to this user",
    "SQLITE_BUSY": "another process has it open: one registry per file; stop the other one",
    "SQLITE_IOERR": "the disk refuses: check the kernel log and the file system",
}


def connect(path: Path) -> sqlite3.Connection:
    """Open or make the file, for this process alone, and check it. Blocks. Raises Corrupt, Unavailable."""
    connection = None
    try:
        # new files 0600: the journal beside it takes the mode over
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600))
        connection = sqlite3.connect(path, isolation_level=None, timeout=1.0)
        _prepare(connection, path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror}: check that its directory exists and can be written") from error
    except sqlite3.Error as error:
        if connection is not None:
            connection.close()
        raise explain(path, error) from error
    except RegistryError:
        if connection is not None:
            connection.close()
        raise
    return connection


def _prepare(connection: sqlite3.Connection, path: Path) -> None:
    # exclusive: the change log and the lease clocks in memory are only right for a sole owner
    connection.execute("PRAGMA locking_mode=EXCLUSIVE")
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    version = connection.execute("PRAGMA user_version").fetchone()[0]
    if version == 0:
        connection.executescript(f"BEGIN IMMEDIATE; {TABLES} PRAGMA user_version={SCHEMA}; COMMIT;")
    elif version != SCHEMA:
        raise Corrupt(f"{path}: schema {version}, this program reads {SCHEMA}: start the version that wrote it")
    else:
        _check(connection, path)
    connection.execute("BEGIN IMMEDIATE")  # takes the lock now, not at the first write
    connection.execute("COMMIT")


def _check(connection: sqlite3.Connection, path: Path) -> None:
    found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise Corrupt(damaged(path, found))


def explain(path: Path, error: sqlite3.Error) -> RegistryError:
    """SQLite's error as ours, with the path and what to do next."""
    name: str = getattr(error, "sqlite_errorname", "") or type(error).__name__
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return Corrupt(damaged(path, str(error)))
    for known, step in NEXT_STEP.items():
        if name.startswith(known):
            return Unavailable(f"{path}: {error}: {step}")
    return Unavailable(f"{path}: {name}: {error}")


def damaged(path: Path, what: str) -> str:
    """What to say of a file whose content cannot be trusted."""
    return f"{path}: damaged ({what}): move it away with its -wal file and restore a backup, or start an empty registry"
