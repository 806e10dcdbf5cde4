"""Following several prefixes of a store into one queue: where meshd's picture of the mesh comes from."""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing

from registry.errors import RegistryError
from registry.store import Lost, Store, WatchEvent

QUEUE = 256  # events; a full queue holds the watches back, and the store merges what they have not taken
FIRST_PAUSE = 0.1  # seconds
LONGEST_PAUSE = 10.0


class Watcher:
    """Feeds `events` with (prefix, event). After an error it resumes behind the last index that it handed on."""

    def __init__(
        self,
        store: Store,
        prefixes: Sequence[str],
        *,
        pause: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.events: asyncio.Queue[tuple[str, WatchEvent]] = asyncio.Queue(QUEUE)
        self.prefixes = tuple(prefixes)
        self._store = store
        self._pause = pause
        self._jitter = jitter

    async def run(self) -> None:
        """Follow all prefixes, for ever. Ends all of them when one ends by an error that is not the registry's."""
        followers: list[asyncio.Task[None] | None] = []

        async def follower(prefix: str) -> None:
            followers.append(asyncio.current_task())
            await self.follow(prefix)

        try:
            await asyncio.gather(*(follower(prefix) for prefix in self.prefixes))
        finally:
            running = [task for task in followers if task is not None and not task.done()]
            for task in running:
                task.cancel()
            if running:
                await asyncio.wait(running)

    async def follow(self, prefix: str) -> None:
        """Follow one prefix, for ever. A refusal (Denied, Corrupt) is handed on as Lost, and tried again later."""
        after: int | None = None
        failures = 0
        while True:
            reached, reason = await self._once(prefix, after)
            after, failures = (after, failures) if reached is None else (reached, 0)
            if failures == 0:
                await self.events.put((prefix, Lost(reason)))
            await self._pause(self._jitter() * min(LONGEST_PAUSE, FIRST_PAUSE * 2**failures))
            failures = min(failures + 1, 16)

    async def _once(self, prefix: str, after: int | None) -> tuple[int | None, str]:
        """One watch to its end: the last index that it handed on, if any, and why it ended."""
        reached: int | None = None
        try:
            async with aclosing(self._store.watch(prefix, after=after)) as events:
                async for event in events:
                    await self.events.put((prefix, event))
                    reached = reached if isinstance(event, Lost) else event.index
        except RegistryError as error:
            return reached, f"{type(error).__name__}: {error}"
        return reached, "the watch ended"
