"""What the watches gave, compared with what the store holds: a change that was never told is found and made good.

A watch promises to be reliable or loudly resynchronised. Servers, proxies and backends break such promises now and
then, and what was not told would stay wrong until the next restart. So every few minutes each followed selector is
listed and compared by digests. A difference counts when it is still there a moment later, in both: a watch may be a
moment behind, and so may a server that answers a cheap read.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from typing import Protocol

from registry.errors import RegistryError
from registry.store import Batch, Entry, Listing, Lost, Resync, StaleReads, Store, WatchEvent

EVERY = 600.0  # seconds between two rounds on average: 200 hosts with 100 selectors each ask 33 times a second
GRACE = 3.0  # seconds: what is told later than this is told too late

Digests = dict[str, bytes]  # of values, by key
Difference = tuple[bytes | None, bytes | None]  # as told, as stored; None: not there


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...


@dataclass(frozen=True)
class Pace:
    """Seconds; `jitter` in [0, 1)."""

    every: float = EVERY
    grace: float = GRACE
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random


PACE = Pace()


class Reconcile:
    """`seen` takes in every event on its way to the fold; `run` compares and hands `repair` what was missed.

    `selectors`: what is followed now; `differences`: keys that were found wrong so far.
    """

    def __init__(
        self,
        store: Store,
        selectors: Callable[[], Collection[str]],
        repair: Callable[[str, Batch], Awaitable[None]],
        log: Log,
        pace: Pace = PACE,
    ) -> None:
        self.differences = 0
        self._store = store
        self._selectors = selectors
        self._repair = repair
        self._log = log
        self._pace = pace
        self._told: dict[str, Digests] = {}  # by selector
        self._lost: set[str] = set()  # selectors without contact: their watch will speak first

    def seen(self, selector: str, event: WatchEvent) -> None:
        if isinstance(event, Lost):
            self._lost.add(selector)
            return
        if event.lacking:  # of several registries one is out of contact: a listing may lack what it holds
            self._lost.add(selector)
        else:
            self._lost.discard(selector)
        if isinstance(event, Resync):
            self._told[selector] = digests(event.entries)
        elif isinstance(event, Batch) and selector in self._told:
            told = self._told[selector]
            for key in event.deletes:
                told.pop(key, None)
            told.update(digests(event.puts))

    async def run(self) -> None:
        """Compare everything, for ever; hosts that started together drift apart."""
        while True:
            await self._pace.pause(2 * self._pace.every * self._pace.jitter())
            for selector in sorted(self._followed()):
                try:
                    await self.check(selector)
                except RegistryError:
                    break  # without the store there is nothing to compare with; its loss is said elsewhere

    async def check(self, selector: str) -> int:
        """Compare one selector; returns how many keys were wrong. Raises as `Store.list`."""
        suspicious = self._differing(selector, await self._glance(selector))
        if not suspicious:
            return 0
        await self._pace.pause(self._pace.grace)
        listing = await _listing(self._store, selector)
        still = self._differing(selector, listing)
        wrong = sorted(key for key, difference in suspicious.items() if still.get(key) == difference)
        if wrong:
            await self._mend(selector, listing, wrong)
        return len(wrong)

    async def _mend(self, selector: str, listing: Listing, wrong: list[str]) -> None:
        self.differences += len(wrong)
        self._log.warning("the registry's watch had missed changes; made good by a listing", selector=selector,
                          keys=wrong[:10], count=len(wrong))  # fmt: skip
        there = {entry.key: entry for entry in listing.entries}
        puts = tuple(there[key] for key in wrong if key in there)
        await self._repair(selector, Batch(listing.index, puts, tuple(key for key in wrong if key not in there)))

    async def _glance(self, selector: str) -> Listing:
        if isinstance(self._store, StaleReads):
            return await self._store.glance(selector)
        return await _listing(self._store, selector)

    def _followed(self) -> frozenset[str]:
        wanted = frozenset(self._selectors())
        for selector in self._told.keys() - wanted:
            del self._told[selector]
        return wanted & self._told.keys() - self._lost

    def _differing(self, selector: str, listing: Listing) -> Mapping[str, Difference]:
        if selector in self._lost:
            return {}
        told, stored = self._told.get(selector, {}), digests(listing.entries)
        return {
            key: (told.get(key), stored.get(key))
            for key in told.keys() | stored.keys()
            if told.get(key) != stored.get(key)
        }


def digests(entries: Collection[Entry]) -> Digests:
    """Of values, not versions: one catalogue has several ways to read an instance, each with an index of its own."""
    return {entry.key: blake2b(entry.value, digest_size=8).digest() for entry in entries}


async def _listing(store: Store, selector: str) -> Listing:
    if selector.endswith("/"):
        return await store.list(selector)
    entry = await store.get(selector)
    return Listing((), 0) if entry is None else Listing((entry,), entry.version)
