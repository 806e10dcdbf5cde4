"""Following many selectors of a store into one queue: where meshd's picture of the mesh comes from.

A selector is a prefix or one key (`registry.store`). `want` says which; watches begin and end while others run.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Protocol

from registry.errors import RegistryError
from registry.store import Lost, Store, WatchEvent

QUEUE = 256  # events; a full queue holds the watches back, and the store merges what they have not taken
FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 10.0


class Running(Protocol):
    """A follower that was started."""

    def cancel(self) -> object: ...


Start = Callable[[str, Callable[[], Awaitable[None]]], Running]


class Watcher:
    """Feeds `events` with (selector, event). After an error it resumes behind the last index that it handed on.

    `start` runs one follower by a name until it is cancelled; what ends it is an error that is not the registry's.
    """

    def __init__(
        self,
        store: Store,
        start: Start,
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.events: asyncio.Queue[tuple[str, WatchEvent]] = asyncio.Queue(QUEUE)
        self._store = store
        self._start = start
        self._pause = pause
        self._jitter = jitter
        self._running: dict[str, Running] = {}

    @property
    def wanted(self) -> frozenset[str]:
        """What is followed now."""
        return frozenset(self._running)

    def want(self, selectors: frozenset[str]) -> None:
        """Follow exactly these from now on. Events of one that is wanted no more may still be in the queue."""
        for selector in self._running.keys() - selectors:
            self._running.pop(selector).cancel()
        for selector in sorted(selectors - self._running.keys()):
            self._running[selector] = self._start(f"watch {selector}", partial(self.follow, selector))

    async def follow(self, selector: str) -> None:
        """Follow one selector, for ever. A refusal (Denied, Corrupt) is handed on as Lost, and tried again later."""
        after: int | None = None
        failures = 0
        while True:
            reached, reason = await self._once(selector, after)
            after, failures = (after, failures) if reached is None else (reached, 0)
            if failures == 0:
                await self.events.put((selector, Lost(reason)))
            await self._pause(self._jitter() * min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures))
            failures = min(failures + 1, 16)

    async def _once(self, selector: str, after: int | None) -> tuple[int | None, str]:
        """One watch to its end: the last index that it handed on, if any, and why it ended."""
        reached: int | None = None
        try:
            async with aclosing(self._store.watch(selector, after=after)) as events:
                async for event in events:
                    await self.events.put((selector, event))
                    reached = reached if isinstance(event, Lost) else event.index
        except RegistryError as error:
            return reached, f"{type(error).__name__}: {error}"
        return reached, "the watch ended"
