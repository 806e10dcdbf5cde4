"""The issuance log: every certificate, before it is handed out, and every refusal.

In the store `ca/issued/<date>/<serial>`, create-only. On the authority's disk `ca/journal.jsonl`, one JSON object a
line: what was issued while the store could not be reached (durable before the certificate leaves; filled into the
store later) and what was refused. No key, no token text is ever in it.
"""

import os
import threading
from collections.abc import Iterable
from pathlib import Path

import msgspec

from registry import keys
from registry.ca import files, rotation
from registry.errors import Conflict, Unavailable
from registry.store import Store

MAX_BYTES = 4 * 1024 * 1024  # anonymous refusals must not fill a disk: beyond, one older file is kept


class _Line(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True, tag_field="What"):
    """`at` Unix seconds by the authority's clock."""

    at: float


class Issued(_Line, frozen=True, kw_only=True, tag="issued"):
    """One certificate. `serial` lower hex, times Unix seconds, `key` SHA-256 of the public key, `by` its authority.

    `action`: join, exchange, sign, renew; `token` the id of the join token.
    """

    serial: str
    identity: str
    node: str
    not_before: float
    not_after: float
    action: str
    key: str
    by: str
    offline: bool = False
    token: str = ""

    @property
    def store_key(self) -> str:
        return f"{keys.CA_ISSUED}{rotation.stamp(self.at)[:10]}/{self.serial}"


class Refused(_Line, frozen=True, kw_only=True, tag="refused"):
    """What was asked and why not. `who` is the caller's identity, or where an anonymous one called from."""

    action: str
    who: str
    reason: str


class Filled(_Line, frozen=True, kw_only=True, tag="filled"):
    """An offline issuance is in the store's log now."""

    serial: str


Line = Issued | Refused | Filled


async def publish(store: Store, item: Issued) -> None:
    """Put one issuance into the store's log. Writing the same again is no error. Raises Unavailable, Conflict."""
    value = msgspec.json.encode(item)
    try:
        await store.put(item.store_key, value, expect=0)
    except Conflict:
        there = await store.get(item.store_key)
        if there is None or there.value != value:
            raise


class Journal:
    """The file on the authority's disk. Blocking: call it through a thread (any number of them)."""

    def __init__(self, path: Path, *, max_bytes: int = MAX_BYTES) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._writing = threading.Lock()

    def append(self, line: Line) -> None:
        """Add a line; an issuance is on the disk when this returns. Raises Unavailable (disk full: not issued)."""
        with self._writing:
            try:
                size = self._append(msgspec.json.encode(line) + b"\n", durable=not isinstance(line, Refused))
            except OSError as error:
                raise Unavailable(f"{self._path} cannot be written: {error.strerror}") from error
            if size > self._max_bytes:
                self._turn()

    def read(self) -> tuple[Line, ...]:
        """All lines; one that a crash cut off is left out."""
        if not self._path.exists():
            return ()
        found: list[Line] = []
        for raw in self._path.read_bytes().splitlines():
            try:
                found.append(msgspec.json.decode(raw, type=Line))
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
        return tuple(found)

    def pending(self) -> tuple[Issued, ...]:
        """Issuances that the store's log does not have yet."""
        return _pending(self.read())

    def _append(self, data: bytes, *, durable: bool) -> int:
        """Refusals cost a caller nothing, so they must not cost us a disk sync. Returns the file's size."""
        self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW
        descriptor = os.open(self._path, flags, 0o600)
        try:
            end = os.fstat(descriptor).st_size
            torn = end > 0 and os.pread(descriptor, 1, end - 1) != b"\n"  # a crash cut the last line off
            os.write(descriptor, b"\n" + data if torn else data)
            if durable:
                os.fsync(descriptor)
            if end == 0:
                files.sync_directory(self._path.parent)
            return end + len(data)
        finally:
            os.close(descriptor)

    def _turn(self) -> None:
        """Start the file again with what is still owed to the store; the old one stays as `.1`."""
        owed = self.pending()
        older = self._path.with_name(self._path.name + ".1")
        files.write(older, self._path.read_bytes())
        files.write(self._path, b"".join(msgspec.json.encode(line) + b"\n" for line in owed))


def _pending(lines: Iterable[Line]) -> tuple[Issued, ...]:
    owed: dict[str, Issued] = {}
    for line in lines:
        if isinstance(line, Issued) and line.offline:
            owed[line.serial] = line
        elif isinstance(line, Filled):
            owed.pop(line.serial, None)
    return tuple(owed.values())
