"""One watch of a prefix: what it has not handed on yet, merged, and when it must list again.

Its owner is whoever iterates; the stream that feeds it belongs to the store (`etcd_stream`).
"""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, Self

from registry.backends import etcd_cells
from registry.backends.etcd_links import Backoff
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Unavailable
from registry.store import Alive, Batch, Entry, Listing, Lost, Resync, WatchEvent

Span = tuple[bytes, bytes]


class Feed(Protocol):
    """What a watch asks of the stream that feeds it."""

    def add(self, watch: "EtcdWatch") -> None:
        """Feed the watch from its `next` revision on; over reconnects until `drop`."""
        ...

    def drop(self, watch: "EtcdWatch") -> None:
        """Feed it no longer; the server forgets it too."""
        ...

    def saw(self, entry: Entry) -> None:
        """A key as the store holds it."""
        ...


@dataclass(frozen=True)
class Source:
    """Where a watch gets its state from. `settle` writes that a key's holder has ended."""

    span: Span
    listing: Callable[[], Awaitable[Listing]]
    settle: Callable[[str], Awaitable[object]]
    backoff: Backoff
    lag: int  # keys that may wait for a slow reader before it starts over


class EtcdWatch:
    """`async for`, ended by `aclose` (also from another task) or by the store's close."""

    def __init__(self, feed: Feed, source: Source, after: int | None) -> None:
        self.span = source.span
        self.next = 1  # the first revision that was not delivered here
        self._feed = feed
        self._source = source
        self._index = 0
        self._puts: dict[str, Entry] = {}
        self._deletes: dict[str, None] = {}
        self._released: dict[str, None] = {}
        self._after = after
        self._begun = False
        self._listing = after is None
        self._failures = 0
        self._down = ""  # why contact is lost
        self._told = False  # and that it was said
        self._beat = False
        self._ended = False
        self._news: asyncio.Future[None] | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> WatchEvent:
        """Raises Denied."""
        self._begin()
        while not self._ended:
            event = await self._list() if self._listing else await self._ready()
            if event is not None and not self._ended:
                return event
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.end()

    def end(self) -> None:
        self._ended = True
        self._feed.drop(self)
        self._puts.clear()
        self._deletes.clear()
        self._notify()

    # ---- what the stream says ---------------------------------------------------------------------------------------

    def take_in(self, events: Sequence[pb.Event]) -> None:
        """Merge what happened into what the reader has not taken."""
        said = etcd_cells.news(events)
        for key, version, entry in said.changes:
            if version < self.next:
                continue
            if entry is None:
                self._puts.pop(key, None)
                self._deletes[key] = None
            else:
                self._deletes.pop(key, None)
                self._puts[key] = entry
                self._feed.saw(entry)
        self._released |= dict.fromkeys(said.released)
        self.next = max(self.next, said.index + 1)
        if len(self._puts) + len(self._deletes) > self._source.lag:
            self.restart()
        self._notify()

    def alive(self) -> None:
        """The store answered; contact is there (again)."""
        self._beat = True
        self._down, self._told = "", False
        self._notify()

    def lost(self, reason: str) -> None:
        self._down = self._down or reason
        self._notify()

    def restart(self) -> None:
        """What came is not all: list again."""
        self._feed.drop(self)
        self._puts.clear()
        self._deletes.clear()
        self._listing = True
        self._notify()

    def refused(self, reason: str) -> None:
        """The server does not watch this for us: listing tells whether rights or only the token are missing."""
        self._failures += 1
        if self._failures > 1:
            self._down = self._down or reason
        self.restart()

    # ---- what the reader gets ---------------------------------------------------------------------------------------

    def _begin(self) -> None:
        if self._begun or self._ended:
            return
        self._begun = True
        if self._after is not None:
            self._index, self.next = self._after, self._after + 1
            self._feed.add(self)

    async def _ready(self) -> WatchEvent | None:
        if self._released:
            await self._let_go()
        if self._puts or self._deletes:
            self._down, self._told, self._beat, self._failures = "", False, False, 0
            return self._take()
        if self._down and not self._told:
            self._told = True
            return Lost(self._down)
        if self._beat and not self._down:
            self._beat, self._failures = False, 0
            return Alive(self._index)
        await self._wait()
        return None

    def _take(self) -> Batch:
        self._index = self.next - 1
        batch = Batch(self._index, tuple(self._puts.values()), tuple(self._deletes))
        self._puts.clear()
        self._deletes.clear()
        return batch

    async def _list(self) -> WatchEvent | None:
        """The Resync; while nobody answers, Lost once and then None."""
        if self._failures:
            if self._down and not self._told:
                self._told = True
                return Lost(self._down)
            await self._source.backoff.pause(self._source.backoff.after(self._failures - 1))
        try:
            found = await self._source.listing()
        except Unavailable as error:
            self._failures += 1
            self._down = self._down or str(error)
            return None
        if self._ended:
            return None
        for entry in found.entries:
            self._feed.saw(entry)
        self._listing = self._beat = False
        self._down, self._told = "", False
        self._puts.clear()
        self._deletes.clear()
        self._released.clear()
        self._index, self.next = found.index, found.index + 1
        self._feed.add(self)
        return Resync(found.index, found.entries)

    async def _let_go(self) -> None:
        """A lease has ended that held keys without taking them along: whoever sees it first writes so."""
        released = list(self._released)
        for key in released:
            await self._source.settle(key)
            self._released.pop(key, None)

    async def _wait(self) -> None:
        if self._pending():
            return
        self._news = asyncio.get_running_loop().create_future()
        try:
            await self._news
        finally:
            self._news = None

    def _pending(self) -> bool:
        fresh = bool(self._puts or self._deletes or self._released or self._beat)
        return self._ended or self._listing or (not self._told if self._down else fresh)

    def _notify(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)
