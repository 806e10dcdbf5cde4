"""The one place that creates tasks: every task has an owner, a name, a fate when it crashes and a stop deadline.

What runs long elsewhere is an `async def run()`; its owner starts it here. `CancelledError` always travels on.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Protocol

import msgspec

from meshd.placed import ConfigError


class Log(Protocol):
    """What this module needs of a logger (`meshd.telemetry.log`)."""

    def error(self, event: str, **fields: object) -> None: ...


class Restart(msgspec.Struct, frozen=True):
    """A crashed task starts again after `first` seconds, doubled up to `limit`, with full jitter.

    A run that lasted longer than `limit` starts the row anew.
    """

    first: float = 0.2
    limit: float = 10.0

    def delay(self, crashes: int, chance: float) -> float:
        """Seconds before the next start; `chance` in [0, 1)."""
        return min(self.limit, self.first * 2.0 ** min(crashes, 16)) * (0.5 + chance / 2)


class Crashed(Exception):
    """A task without a `Restart` ended with an exception: its owner cannot go on."""


class Tasks:
    """The tasks of one owner. `stop` cancels them, newest first, each within its deadline."""

    def __init__(self, owner: str, log: Log, *, chance: Callable[[], float] = random.random) -> None:
        self.owner = owner
        self._log = log
        self._chance = chance
        self._running: dict[asyncio.Task[None], float] = {}
        self._failed: asyncio.Future[None] | None = None

    def start(
        self,
        name: str,
        run: Callable[[], Awaitable[None]],
        *,
        restart: Restart | None = None,
        stop_within: float = 2.0,
    ) -> asyncio.Task[None]:
        """Run `run()` until it returns. `restart` None: a crash makes `failed` raise, which ends the process."""
        coroutine = self._guard(name, run, restart)
        task = asyncio.get_running_loop().create_task(coroutine, name=f"{self.owner}/{name}")
        self._running[task] = stop_within
        task.add_done_callback(lambda done: self._running.pop(done, None))
        return task

    async def _guard(self, name: str, run: Callable[[], Awaitable[None]], restart: Restart | None) -> None:
        clock = asyncio.get_running_loop().time
        crashes = 0
        while True:
            began = clock()
            try:
                await run()
                return
            except asyncio.CancelledError:
                raise
            except ConfigError as error:
                self._fail(name, error)  # no fault of the program: said once, without a trace, by whoever ends it
                return
            except Exception as error:
                self._log.error("task crashed", owner=self.owner, task=name, error=repr(error), exc_info=error)
                if restart is None:
                    self._fail(name, error)
                    return
            crashes = 0 if clock() - began > restart.limit else crashes + 1
            await asyncio.sleep(restart.delay(crashes, self._chance()))

    def _fail(self, name: str, error: Exception) -> None:
        failure = self._failure()
        if not failure.done():
            crashed = Crashed(f"{self.owner}/{name}: {error!r}")
            crashed.__cause__ = error
            failure.set_exception(crashed)
            failure.exception()  # marks it as seen: an owner that is stopping already does not wait for it

    def _failure(self) -> asyncio.Future[None]:
        if self._failed is None:
            self._failed = asyncio.get_running_loop().create_future()
        return self._failed

    async def failed(self) -> None:
        """Wait for ever, or raise Crashed when a task that may not crash did."""
        await asyncio.shield(self._failure())

    def __len__(self) -> int:
        return len(self._running)

    async def stop(self) -> None:
        """Cancel all, newest first; one that does not end within its deadline is logged and left behind."""
        for task, within in reversed(list(self._running.items())):
            task.cancel()
            _, late = await asyncio.wait({task}, timeout=within)
            if late:
                self._log.error("task did not stop", owner=self.owner, task=task.get_name(), seconds=within)


async def first(*coroutines: Coroutine[Any, Any, object]) -> None:
    """Wait until one of several ends, cancel the others, and raise what the first raised."""
    loop = asyncio.get_running_loop()
    running = [loop.create_task(one, name=f"first/{number}") for number, one in enumerate(coroutines)]
    try:
        await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in running:
            if not task.done():
                task.cancel()
        await asyncio.wait(running)
    for task in running:
        if not task.cancelled():
            task.result()
