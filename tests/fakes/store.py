"""A store in memory that behaves, and fails when a test says so: for tests of what uses a store."""

from collections.abc import Sequence

import msgspec

from registry.errors import Conflict, RegistryError
from registry.store import Entry, Listing, Op, Watch, WatchEvent


class ScriptedWatch:
    """Plays events; an error among them is raised, and after the last one the watch ends."""

    def __init__(self, events: Sequence[WatchEvent | Exception]) -> None:
        self._events = list(events)
        self.closed = False

    def __aiter__(self) -> "ScriptedWatch":
        return self

    async def __anext__(self) -> WatchEvent:
        if not self._events:
            raise StopAsyncIteration
        event = self._events.pop(0)
        if isinstance(event, Exception):
            raise event
        return event

    async def aclose(self) -> None:
        self.closed = True


class MemoryStore:
    """Keys and compare-and-set. `failures` are raised by the next calls, one each; `scripts` are played by watches."""

    max_value = 512 * 1024
    max_watches: int | None = None

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.index_now = 1
        self.failures: list[RegistryError] = []
        self.scripts: list[Sequence[WatchEvent | Exception]] = []
        self.watched: list[tuple[str, int | None]] = []

    async def get(self, key: str) -> Entry | None:
        self._fail()
        return self.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        self._fail()
        found = tuple(self.entries[key] for key in sorted(self.entries) if key.startswith(prefix))
        return Listing(found, self.index_now)

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        return await self.transact([Op(key=key, value=value, expect=expect, lease=lease, flags=flags)])

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        return await self.transact([Op(key=key, value=None, expect=expect)])

    async def transact(self, ops: Sequence[Op]) -> int:
        self._fail()
        for op in ops:
            before = self.entries.get(op.key)
            if op.expect is not None and op.expect != (before.version if before else 0):
                raise Conflict(f"{op.key}: is at another version")
        self.index_now += 1
        for op in ops:
            before = self.entries.pop(op.key, None)
            if op.value is not None:
                fresh = Entry(key=op.key, value=op.value, version=self.index_now, created=self.index_now)
                self.entries[op.key] = msgspec.structs.replace(fresh, created=before.created) if before else fresh
        return self.index_now

    async def grant(self, ttl: float, *, name: str = "") -> str:
        return name or "lease"

    async def renew(self, lease: str) -> None:
        self._fail()

    async def revoke(self, lease: str) -> None:
        self._fail()

    def watch(self, prefix: str, *, after: int | None = None) -> Watch:
        self.watched.append((prefix, after))
        return ScriptedWatch(self.scripts.pop(0) if self.scripts else ())

    async def close(self) -> None:
        self.entries.clear()

    def _fail(self) -> None:
        if self.failures:
            raise self.failures.pop(0)
