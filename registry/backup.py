"""A backup of what is worth keeping of a store: one file of JSON lines that says itself whether it is whole.

    {"format":"meshd-backup/1","made":"2026-11-23T18:00:00Z","prefix":"mesh/v1/","store_id":"…","index":812}
    {"key":"mesh/v1/config/mesh","version":12,"created":12,"flags":0,"value":"<base64>"}
    …
    {"entries":34,"sha256":"<hex, of every byte before this line>"}

The keys come from one listing of the whole prefix, so they are of one moment: etcd's revision, SQLite's index; on
Consul the index of the newest key. Kept: documents, trust, revocations, history, hosts, the store's id. Not kept, since
hosts write them anew: leases, sessions, status; instances only when they are asked for (Consul has them elsewhere).
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import BinaryIO, TypeVar

import msgspec

from registry import keys
from registry.errors import Corrupt
from registry.store import Entry, Listing, Store

T = TypeVar("T", bound=msgspec.Struct)

FORMAT = "meshd-backup/1"
KEPT = (keys.CONFIG, keys.POLICY, keys.CA, keys.REVOCATIONS, keys.HISTORY, keys.NODES)
PROBE = "backup-probe"  # a name that nobody uses: reading it shows whether the caller may
LONGEST = 4 << 20  # bytes of a line: the largest value of any store as base64, with room


class Header(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`made`: RFC 3339; `index`: of the listing; `store_id`: empty when the store had none."""

    format: str
    made: str
    prefix: str
    store_id: str
    index: int


class Line(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key. `version` and `created` are indexes of the store that it came from: for people, not for restoring."""

    key: str
    version: int
    created: int
    flags: int
    value: bytes


class Trailer(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`sha256`: hex, of every byte of the lines before."""

    entries: int
    sha256: str


class Backup(msgspec.Struct, frozen=True):
    """A file whose checksum was right."""

    header: Header
    lines: tuple[Line, ...]


class Collected(msgspec.Struct, frozen=True):
    """What is to be written. `skipped`: keys outside the alphabet, which no other store would take."""

    header: Header
    lines: tuple[Line, ...]
    skipped: tuple[str, ...]


def worth_keeping(key: str, *, services: bool = False) -> bool:
    return key == keys.STORE_ID or key.startswith(KEPT) or (services and key.startswith(keys.SERVICES))


async def readable(store: Store) -> None:
    """Raises Denied naming a part that the caller may not read: a listing would leave it out in silence (Consul)."""
    for part in (keys.STORE_ID, *KEPT):
        await store.get(part + PROBE if part.endswith("/") else part)


async def collect(store: Store, made: str, *, services: bool = False) -> Collected:
    """Raises Denied naming a part that the caller may not read."""
    await readable(store)
    entries, index = await _listed(store, services)
    store_id = next((one.value.decode("ascii", "replace") for one in entries if one.key == keys.STORE_ID), "")
    kept = [one for one in entries if worth_keeping(one.key, services=services)]
    header = Header(format=FORMAT, made=made, prefix=keys.PREFIX, store_id=store_id, index=index)
    return Collected(
        header,
        tuple(_line(one) for one in kept if keys.valid_key(one.key)),
        tuple(one.key for one in kept if not keys.valid_key(one.key)),
    )


async def _listed(store: Store, services: bool) -> tuple[tuple[Entry, ...], int]:
    whole: Listing = await store.list(keys.PREFIX)
    if not services or any(one.key.startswith(keys.SERVICES) for one in whole.entries):
        return whole.entries, whole.index
    # Consul keeps instances in its catalogue, which no listing of keys shows
    return (*whole.entries, *(await store.list(keys.SERVICES)).entries), whole.index


def _line(entry: Entry) -> Line:
    return Line(key=entry.key, version=entry.version, created=entry.created, flags=entry.flags, value=entry.value)


def write(found: Collected, file: BinaryIO, progress: Callable[[int], None] = lambda done: None) -> Trailer:
    """Line by line. Raises OSError."""
    digest = hashlib.sha256()

    def put(value: Header | Line) -> None:
        line = msgspec.json.encode(value) + b"\n"
        digest.update(line)
        file.write(line)

    put(found.header)
    for done, line in enumerate(found.lines, 1):
        put(line)
        progress(done)
    trailer = Trailer(entries=len(found.lines), sha256=digest.hexdigest())
    file.write(msgspec.json.encode(trailer) + b"\n")
    return trailer


def read(file: BinaryIO) -> Backup:
    """Raises Corrupt for what is no backup, was cut off or changed, and for keys that are not the mesh's."""
    digest = hashlib.sha256()
    lines = _lines(file)
    first = next(lines, b"")
    header = _decode(first, Header, 1)
    if header.format != FORMAT or header.prefix != keys.PREFIX:
        raise Corrupt(f"a backup of format {header.format!r} below {header.prefix!r}; this one reads {FORMAT}")
    digest.update(first)
    found: list[Line] = []
    before = b""
    for line in lines:
        if before:
            digest.update(before)
            found.append(_decode(before, Line, len(found) + 2))
        before = line
    trailer = _decode(before, Trailer, len(found) + 2)
    if trailer.entries != len(found) or trailer.sha256 != digest.hexdigest():
        raise Corrupt(f"the checksum is not that of its {len(found)} keys: the file was cut off or changed")
    _check(found)
    return Backup(header, tuple(found))


def _lines(file: BinaryIO) -> Iterator[bytes]:
    while line := file.readline(LONGEST + 1):
        if len(line) > LONGEST or not line.endswith(b"\n"):
            raise Corrupt("a line is too long or not ended: the file was cut off, or is no backup")
        yield line


def _decode(line: bytes, kind: type[T], number: int) -> T:
    try:
        return msgspec.json.decode(line, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"line {number} is no {kind.__name__.lower()} of a backup: {error}") from error


def _check(lines: Iterable[Line]) -> None:
    seen: set[str] = set()
    for line in lines:
        if line.key in seen or not keys.valid_key(line.key) or not worth_keeping(line.key, services=True):
            raise Corrupt(f"{line.key[:200]!r} is no key that a backup holds once")
        seen.add(line.key)
