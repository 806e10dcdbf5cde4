"""The statements of the embedded store: what one read or one write does to an open connection.

Runs on the store's database thread only. A write happens inside a savepoint of `sqlite_worker` and is told the index
that it will have; it returns its answer and what changed, for the watchers.
"""

import sqlite3
from collections.abc import Sequence

import msgspec

from registry import keys
from registry.errors import Conflict, NotFound
from registry.store import Behavior, Entry, Lease, Listing, Op

COLUMNS = "key, value, version, created, flags, lease, lock_index"
UNSIGNED = 2**64  # Consul's flags are unsigned, SQLite's integers are not
AFTER_ALL = "\x7f"  # sorts behind every character of a key


class Changes(msgspec.Struct, frozen=True):
    """What one write did. `index` is also the write's place in the order of all writes."""

    index: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[str, ...] = ()


# ---- reads ------------------------------------------------------------------------------------------------------


def store_index(db: sqlite3.Connection) -> int:
    return int(db.execute("SELECT value FROM meta WHERE name = 'index'").fetchone()[0])


def get(db: sqlite3.Connection, key: str) -> Entry | None:
    row = db.execute(f"SELECT {COLUMNS} FROM entries WHERE key = ?", (key,)).fetchone()
    return _entry(row) if row else None


def listing(db: sqlite3.Connection, prefix: str) -> Listing:
    rows = db.execute(
        f"SELECT {COLUMNS} FROM entries WHERE key >= ? AND key < ? ORDER BY key", (prefix, prefix + AFTER_ALL)
    )
    return Listing(tuple(map(_entry, rows)), store_index(db))


def selected(db: sqlite3.Connection, selector: str) -> Listing:
    """What a watch speaks of: all below a prefix, or one key."""
    if not keys.is_key(selector):
        return listing(db, selector)
    found = get(db, selector)
    return Listing((found,) if found is not None else (), store_index(db))


def prefix_index(db: sqlite3.Connection, prefix: str, exact: bool) -> int:
    """The highest version below the prefix with deletions; where those were pruned, the floor that they left."""
    where, bounds = ("key = ?", (prefix,)) if exact else ("key >= ? AND key < ?", (prefix, prefix + AFTER_ALL))
    row = db.execute(
        f"SELECT max((SELECT value FROM meta WHERE name = 'floor'),"
        f" (SELECT ifnull(max(version), 0) FROM entries WHERE {where}),"
        f" (SELECT ifnull(max(version), 0) FROM tombstones WHERE {where}))",
        bounds * 2,
    ).fetchone()
    return int(row[0])


def leases(db: sqlite3.Connection) -> tuple[Lease, ...]:
    rows = db.execute("SELECT id, name, ttl, behavior, created FROM leases ORDER BY created, id")
    return tuple(Lease(id=i, name=name, ttl=ttl, behavior=behavior, created=at) for i, name, ttl, behavior, at in rows)


# ---- writes -----------------------------------------------------------------------------------------------------


def transact(db: sqlite3.Connection, index: int, ops: Sequence[Op]) -> tuple[int, Changes | None]:
    """All ops in order, later ones seeing what earlier ones did. Answers the index, or the version that stands."""
    puts: dict[str, Entry] = {}
    deletes: dict[str, None] = {}
    standing = 0
    for op in ops:
        before = get(db, op.key)
        _expect(op, before)
        if op.value is None:
            if before is not None:
                _bury(db, op.key, index)
                puts.pop(op.key, None)
                deletes[op.key] = None
            standing = max(standing, index if before else 0)
            continue
        after = _written(db, index, op, before)
        if after is not before:
            _save(db, after)
            deletes.pop(op.key, None)
            puts[op.key] = after
        standing = max(standing, after.version)
    changed = bool(puts or deletes)
    answer = index if changed else standing or store_index(db)
    return answer, Changes(index, tuple(puts.values()), tuple(deletes)) if changed else None


def acquire(db: sqlite3.Connection, index: int, op: Op) -> tuple[bool, Changes | None]:
    """The put of `op` unless another lease holds the key."""
    before = get(db, op.key)
    if before is not None and before.lease not in (None, op.lease):
        return False, None
    return True, transact(db, index, [op])[1]


def release(db: sqlite3.Connection, index: int, op: Op) -> tuple[bool, Changes | None]:
    """Write the key and let go of it if `op.lease` holds it."""
    before = get(db, op.key)
    if before is None or op.value is None or before.lease != op.lease or op.lease is None:
        return False, None
    after = msgspec.structs.replace(before, value=op.value, flags=op.flags, lease=None, version=index)
    _save(db, after)
    return True, Changes(index, (after,))


def grant(db: sqlite3.Connection, index: int, lease: Lease) -> tuple[None, Changes | None]:
    row = (lease.id, lease.name, lease.ttl, lease.behavior, index)
    db.execute("INSERT INTO leases (id, name, ttl, behavior, created) VALUES (?, ?, ?, ?, ?)", row)
    return None, Changes(index)


def end_leases(db: sqlite3.Connection, index: int, ids: Sequence[str]) -> tuple[int, Changes | None]:
    """End these leases with all their keys, as one write. Unknown ones are no error. Answers how many ended."""
    puts: list[Entry] = []
    deletes: list[str] = []
    ended = 0
    for lease in ids:
        row = db.execute("DELETE FROM leases WHERE id = ? RETURNING behavior", (lease,)).fetchone()
        if row is None:
            continue
        ended += 1
        behavior: Behavior = row[0]
        held = [_entry(r) for r in db.execute(f"SELECT {COLUMNS} FROM entries WHERE lease = ?", (lease,)).fetchall()]
        for entry in held:
            if behavior == "delete":
                _bury(db, entry.key, index)
                deletes.append(entry.key)
                continue
            after = msgspec.structs.replace(entry, lease=None, version=index)
            _save(db, after)
            puts.append(after)
    return ended, Changes(index, tuple(puts), tuple(deletes)) if ended else None


def prune(db: sqlite3.Connection, keep: int) -> bool:
    """Forget the oldest deletions beyond `keep`; their highest index becomes the floor of every prefix."""
    row = db.execute("SELECT version FROM tombstones ORDER BY version DESC LIMIT 1 OFFSET ?", (keep,)).fetchone()
    if row is None:
        return False
    db.execute("DELETE FROM tombstones WHERE version <= ?", row)
    db.execute("UPDATE meta SET value = ? WHERE name = 'floor'", row)
    return True


def save_index(db: sqlite3.Connection, index: int) -> None:
    db.execute("UPDATE meta SET value = ? WHERE name = 'index'", (index,))


def _entry(row: tuple[str, bytes, int, int, int, str | None, int]) -> Entry:
    key, value, version, created, flags, lease, lock_index = row
    return Entry(
        key=key,
        value=value,
        version=version,
        created=created,
        flags=flags % UNSIGNED,
        lease=lease,
        lock_index=lock_index,
    )


def _expect(op: Op, before: Entry | None) -> None:
    found = before.version if before is not None else 0
    if op.expect is not None and op.expect != found:
        wanted = f"version {op.expect}" if op.expect else "absent"
        raise Conflict(f"{op.key}: expected {wanted}, it is {f'at version {found}' if found else 'absent'}")


def _written(db: sqlite3.Connection, index: int, op: Op, before: Entry | None) -> Entry:
    """The entry after a put; `before` itself when nothing would change."""
    assert op.value is not None
    if op.lease is not None and db.execute("SELECT 1 FROM leases WHERE id = ?", (op.lease,)).fetchone() is None:
        raise NotFound(f"{op.key}: lease {op.lease} does not exist: it has expired, grant a new one")
    if before is None:
        lock_index = 1 if op.lease else 0
        return Entry(
            key=op.key,
            value=op.value,
            version=index,
            created=index,
            flags=op.flags,
            lease=op.lease,
            lock_index=lock_index,
        )
    lease = op.lease or before.lease
    if (op.value, op.flags, lease) == (before.value, before.flags, before.lease):
        return before
    taken = lease != before.lease
    return msgspec.structs.replace(
        before,
        value=op.value,
        version=index,
        flags=op.flags,
        lease=lease,
        lock_index=before.lock_index + (1 if taken else 0),
    )


def _save(db: sqlite3.Connection, entry: Entry) -> None:
    flags = entry.flags if entry.flags < UNSIGNED // 2 else entry.flags - UNSIGNED
    row = (entry.key, entry.value, entry.version, entry.created, flags, entry.lease, entry.lock_index)
    db.execute(f"INSERT OR REPLACE INTO entries ({COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)", row)
    db.execute("DELETE FROM tombstones WHERE key = ?", (entry.key,))


def _bury(db: sqlite3.Connection, key: str, index: int) -> None:
    db.execute("DELETE FROM entries WHERE key = ?", (key,))
    db.execute("INSERT OR REPLACE INTO tombstones (key, version) VALUES (?, ?)", (key, index))
