"""Putting a backup back: what would happen to each key (pure), then compare-and-set in portions.

The store's id is written last: until then every host holds what it knows, so no host sees half a policy.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import msgspec

from registry import keys, store_id
from registry.backup import Line, readable
from registry.errors import Conflict, TooLarge
from registry.store import Entry, Op, Store

Verdict = Literal["new", "same", "earlier", "differs", "kept"]

CHUNK = 64  # keys that every store takes in one transaction
CHUNK_BYTES = 256 * 1024  # of values: with base64 and the rest below the 512 KiB of a Consul request
TRIES = 8  # looks at the store while others write to it


class Record(msgspec.Struct, frozen=True, rename="pascal"):
    """What counts here of a value below `history/`."""

    at: str
    text: str


class Row(msgspec.Struct, frozen=True):
    """What restoring does to a key. `version` is the store's.

    `kept`: the store's own value is left, for `why`. `earlier`: both record one version of a document, and the backup
    has it from the one who wrote it; a host that found the text in force has recorded it anew.
    """

    key: str
    verdict: Verdict
    version: int = 0
    why: str = ""


class Differs(Conflict):
    """The store has other values. `rows`: their keys."""

    def __init__(self, rows: Sequence[Row]) -> None:
        names = ", ".join(row.key for row in rows[:3])
        super().__init__(f"{len(rows)} keys differ from the backup ({names}{', …' if len(rows) > 3 else ''})")
        self.rows = tuple(rows)


def plan(lines: Iterable[Line], present: Mapping[str, Entry]) -> tuple[Row, ...]:
    """One row per key of the backup, in the order of writing."""
    rows = [_row(line, present.get(line.key)) for line in lines]
    return tuple(sorted(rows, key=lambda row: (row.key == keys.STORE_ID, row.key)))


def _row(line: Line, held: Entry | None) -> Row:
    if held is None:
        return Row(line.key, "new")
    if (held.value, held.flags) == (line.value, line.flags):
        return Row(line.key, "same", held.version)
    if line.key.startswith(keys.HISTORY):
        if _earlier(line.value, held.value):
            return Row(line.key, "earlier", held.version, "recorded anew since")
        return Row(line.key, "kept", held.version, "another text has this number in the store")
    if line.key.startswith((keys.NODES, keys.SERVICES)):
        return Row(line.key, "kept", held.version, "its host has written it anew")
    if line.key == keys.STORE_ID:
        ours, theirs = (value.decode("ascii", "replace") for value in (line.value, held.value))
        if 0 <= store_id.rank(ours, theirs) < store_id.rank(theirs, theirs):
            return Row(line.key, "kept", held.version, "the store was adopted since")
    return Row(line.key, "differs", held.version)


def _earlier(ours: bytes, theirs: bytes) -> bool:
    try:
        mine, other = (msgspec.json.decode(value, type=Record) for value in (ours, theirs))
    except (msgspec.DecodeError, UnicodeDecodeError):
        return False
    return mine.text == other.text and mine.at <= other.at  # RFC 3339 in UTC: text sorts as time


def unknown(lines: Iterable[Line], present: Iterable[str]) -> tuple[str, ...]:
    """Documents and revocations of the store that the backup does not have. Restoring leaves them alone."""
    known = {line.key for line in lines}
    parts = (keys.CONFIG, keys.POLICY, keys.REVOCATIONS)
    return tuple(sorted(key for key in present if key.startswith(parts) and key not in known))


def portions(rows: Sequence[Row], lines: Mapping[str, Line]) -> list[list[Op]]:
    """What is to be written, in transactions that every store takes; a value too large to share goes alone."""
    found: list[list[Op]] = []
    size = 0
    for row in rows:
        if row.verdict not in ("new", "earlier", "differs"):
            continue
        line = lines[row.key]
        size += len(line.value)
        alone = row.key == keys.STORE_ID
        if not found or alone or len(found[-1]) >= CHUNK or size > CHUNK_BYTES:
            found.append([])
            size = len(line.value)
        found[-1].append(Op(key=row.key, value=line.value, expect=row.version, flags=line.flags))
    return found


async def look(store: Store, lines: Sequence[Line]) -> tuple[tuple[Row, ...], tuple[str, ...]]:
    """The plan, and what the backup does not know. Raises TooLarge for a value that this store does not take."""
    for line in lines:
        if len(line.value) > store.max_value:
            raise TooLarge(f"{line.key}: {len(line.value)} bytes, this store takes {store.max_value}")
    await readable(store)
    listing = await store.list(keys.PREFIX)
    present = {entry.key: entry for entry in listing.entries}
    return plan(lines, present), unknown(lines, present)


async def restore(
    store: Store,
    lines: Sequence[Line],
    *,
    overwrite: bool = False,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> tuple[Row, ...]:
    """Write what is new, and what differs if `overwrite`. Returns the first plan. Raises Differs, and as a store.

    Doing it again goes on where it ended: what is there already is the same.
    """
    by_key = {line.key: line for line in lines}
    rows, _ = await look(store, lines)
    first, total = rows, sum(map(len, portions(rows, by_key)))
    for _ in range(TRIES):
        differing = [row for row in rows if row.verdict == "differs"]
        if differing and not overwrite:
            raise Differs(differing)
        todo = portions(rows, by_key)
        left = sum(map(len, todo))
        try:
            for ops in todo:
                await store.transact(ops)
                left -= len(ops)
                progress(total - left, total)
        except Conflict:  # somebody wrote one of them since we looked: look again
            rows, _ = await look(store, lines)
            continue
        return first
    raise Conflict(f"others wrote the same keys {TRIES} times while they were restored")
