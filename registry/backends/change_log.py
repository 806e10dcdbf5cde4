"""Recent changes in memory, and the watches and waits that are fed from them. Lives on the event loop alone.

A commit reaches each watch at the moment it is published: merged into what the watch has not yet taken, so that a
slow reader costs memory by the number of changed keys, not of changes, and past a bound is told to start over.
"""

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Self

import msgspec

from registry import keys
from registry.backends.sqlite_tables import Changes
from registry.errors import Unavailable
from registry.store import Alive, Batch, Entry, Listing, Lost, Resync, WatchEvent


class ChangeLog:
    """What happened after `start`. `after` values older than the log's first change cannot be served from it."""

    def __init__(self, start: int, *, size: int) -> None:
        self.index = start
        self._known_after = start  # the log holds every change with an index above this
        self._size = size
        self._recent: deque[Changes] = deque()
        self._watches: dict[str, set[PrefixWatch]] = {}
        self._waits: dict[tuple[str, bool], set[asyncio.Future[int]]] = {}

    def begin(self, index: int) -> None:
        """The log starts here: what was before is on disk only."""
        self.index = self._known_after = index

    def publish(self, commits: Iterable[Changes]) -> None:
        for changes in commits:
            self.index = changes.index
            self._recent.append(changes)
            if len(self._recent) > self._size:
                self._known_after = self._recent.popleft().index
            self._tell(changes)

    def _tell(self, changes: Changes) -> None:
        for selector, watches in self._watches.items():
            part = below(changes, selector)
            if part is not None:
                _feed(watches, part)
        moved = touched(changes)
        for (prefix, exact), waits in self._waits.items():  # here a prefix may end anywhere, as Consul's may
            if prefix in moved or (not exact and any(key.startswith(prefix) for key in moved)):
                _wake(waits, changes.index)

    def since(self, selector: str, after: int) -> list[Changes] | None:
        """What a selector sees of the changes after an index; None: the log does not reach so far back, or forward."""
        if not self._known_after <= after <= self.index:
            return None
        parts = (below(changes, selector) for changes in self._recent if changes.index > after)
        return [part for part in parts if part is not None]

    def join(self, watch: "PrefixWatch") -> None:
        self._watches.setdefault(watch.selector, set()).add(watch)

    def leave(self, watch: "PrefixWatch") -> None:
        watches = self._watches.get(watch.selector, set())
        watches.discard(watch)
        if not watches:
            self._watches.pop(watch.selector, None)

    async def next_touch(self, prefix: str, exact: bool, known: Callable[[], Awaitable[int]], after: int) -> int:
        """`known()` as soon as it is not `after`: now, or with the next change of the prefix."""
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        waits = self._waits.setdefault((prefix, exact), set())
        waits.add(future)  # before asking: a change between the answer and the wait is not lost
        try:
            index = await known()
            return index if index != after else await future
        finally:
            waits.discard(future)
            if not waits:
                self._waits.pop((prefix, exact), None)

    def close(self, reason: str) -> None:
        """End every watch, and fail every wait with Unavailable."""
        for watches in list(self._watches.values()):
            for watch in list(watches):
                watch.end()
        for waits in self._waits.values():
            for future in waits:
                if not future.done():
                    future.set_exception(Unavailable(reason))

    @property
    def held(self) -> int:
        """Watches and waits that are registered now."""
        return sum(map(len, self._watches.values())) + sum(map(len, self._waits.values()))


class Pace(msgspec.Struct, frozen=True):
    """`lag`: keys that may wait for a slow reader; `alive`: seconds of silence that yield an Alive."""

    lag: int
    alive: float


class PrefixWatch:
    """One watch: `async for`, ended by `aclose` (also from another task) or by the store's close."""

    def __init__(
        self, log: ChangeLog, selector: str, after: int | None, listing: Callable[[], Awaitable[Listing]], pace: Pace
    ) -> None:
        self.selector = selector
        self._log = log
        self._after = after
        self._listing = listing
        self._pace = pace
        self._index = 0
        self._puts: dict[str, Entry] = {}
        self._deletes: dict[str, int] = {}  # with the index of each, to tell it from a listing's
        self._resync = False
        self._lost = False
        self._begun = False
        self._ended = False
        self._news: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        if not self._begun and not self._ended:
            self._begin()
        while not self._ended:
            if self._resync:
                event = await self._start_over()
                if event is not None:
                    return event
                await self._wait()
            elif self._puts or self._deletes:
                return self._take()
            elif not await self._wait():
                return Alive(self._log.index)
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        self._ended = True
        self._log.leave(self)
        self._puts.clear()
        self._deletes.clear()
        self._notify()

    def feed(self, changes: Changes) -> None:
        """Merge a commit's changes of its keys into what the reader has not taken."""
        if changes.index <= self._index or self._resync:
            return
        self._index = changes.index
        for key in changes.deletes:
            self._puts.pop(key, None)
            self._deletes[key] = changes.index
        for entry in changes.puts:
            self._deletes.pop(entry.key, None)
            self._puts[entry.key] = entry
        if len(self._puts) + len(self._deletes) > self._pace.lag:
            self._puts.clear()
            self._deletes.clear()
            self._resync = True
        self._notify()

    def _begin(self) -> None:
        self._begun = True
        past = self._log.since(self.selector, self._after) if self._after is not None else None
        self._log.join(self)
        if past is None:
            self._resync = True
            return
        for changes in past:
            self.feed(changes)

    async def _start_over(self) -> WatchEvent | None:
        """The Resync; while the disk refuses, Lost once and then None."""
        # from here on commits are merged again; those that the listing already holds are dropped by their index
        self._resync = False
        try:
            found = await self._listing()
        except Unavailable as error:
            self._resync = True
            first, self._lost = not self._lost, True
            return Lost(str(error)) if first else None
        except BaseException:
            self._resync = True
            raise
        self._lost = False
        self._puts = {key: entry for key, entry in self._puts.items() if entry.version > found.index}
        self._deletes = {key: index for key, index in self._deletes.items() if index > found.index}
        self._index = max(self._index, found.index)
        return Resync(found.index, found.entries)

    def _take(self) -> Batch:
        batch = Batch(self._index, tuple(self._puts.values()), tuple(self._deletes))
        self._puts.clear()
        self._deletes.clear()
        return batch

    async def _wait(self) -> bool:
        """True when there is news (or the end), False after `alive` seconds of silence."""
        self._news = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._pace.alive):
                await self._news
        except TimeoutError:
            return False
        finally:
            self._news = None
        return True

    def _notify(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)


def touched(changes: Changes) -> frozenset[str]:
    """The keys that a commit has changed."""
    return frozenset((*(entry.key for entry in changes.puts), *changes.deletes))


def below(changes: Changes, selector: str) -> Changes | None:
    """The part of a commit that a selector sees, None if none of it."""
    puts = tuple(entry for entry in changes.puts if keys.covers(selector, entry.key))
    deletes = tuple(key for key in changes.deletes if keys.covers(selector, key))
    return Changes(changes.index, puts, deletes) if puts or deletes else None


def _feed(watches: Iterable[PrefixWatch], part: Changes) -> None:
    for watch in watches:
        watch.feed(part)


def _wake(waits: Iterable["asyncio.Future[int]"], index: int) -> None:
    for future in waits:
        if not future.done():
            future.set_result(index)
