"""Is the server that owes us a late answer still there? A blocking query is silent for a minute; a frozen server too.

While somebody waits for a long answer of one address, a light question goes to it every few seconds, on another
connection; when that is not answered either, all who wait are told at once. Answers to anything else count too, so a
host that asks often asks nothing extra. Whatever is answered is a sign of life: `no leader` is an answer.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp

EVERY = 3.0  # seconds without a word until the question is asked
SILENCE = 2.5  # seconds to answer it
TRIES = 2  # a process that was itself frozen finds its first time limit over when it goes on


class Silent(Exception):
    """The address answers nothing any more."""


class Heart:
    """`ask` puts the question, and raises TimeoutError or aiohttp.ClientError. Without `run` nobody is told."""

    def __init__(
        self,
        ask: Callable[[float], Awaitable[object]],
        *,
        every: float = EVERY,
        silence: float = SILENCE,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._ask = ask
        self._every = every
        self._silence = silence
        self._clock = clock
        self._heard = clock()
        self._waiting: set[asyncio.Timeout] = set()
        self._wanted = asyncio.Event()

    def heard(self) -> None:
        """The address has answered something."""
        self._heard = self._clock()

    @asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Around the wait for a long answer. Raises Silent when the address falls silent meanwhile."""
        try:
            async with asyncio.timeout(None) as limit:
                self._waiting.add(limit)
                self._wanted.set()
                try:
                    yield
                finally:
                    self._waiting.discard(limit)
        except TimeoutError as error:
            if limit.expired():
                raise Silent(f"silent for {self._clock() - self._heard:.1f} s") from error
            raise

    async def run(self) -> None:
        """Listen while somebody waits, for ever."""
        while True:
            if not self._waiting:
                self._wanted.clear()
                await self._wanted.wait()
                self.heard()  # nobody listened before
            await asyncio.sleep(max(0.01, self._heard + self._every - self._clock()))
            if self._waiting and self._clock() - self._heard >= self._every and not await self._alive():
                self._tell()

    async def _alive(self) -> bool:
        asked = self._clock()
        for _ in range(TRIES):
            try:
                await self._ask(self._silence)
            except (TimeoutError, OSError, aiohttp.ClientError):
                if self._heard > asked:
                    return True
            else:
                self.heard()
                return True
        return False

    def _tell(self) -> None:
        now = asyncio.get_running_loop().time()
        for limit in self._waiting:
            limit.reschedule(now)
        self._waiting.clear()
