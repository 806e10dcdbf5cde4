"""One sign of life wakes all who wait for the registry.

Each watch retries on its own, with growing random pauses, so that a fleet does not fall upon a registry that comes
back. Within one host that would mean waiting for the unluckiest of seven; so whoever gets through tells the others.
"""

import asyncio
import contextlib


class Contact:
    """`pause` is given to the store's retries; `made` ends all pauses that are under way."""

    def __init__(self) -> None:
        self._pulse = asyncio.Event()

    async def pause(self, seconds: float) -> None:
        """Wait, at most `seconds`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._pulse.wait()

    def made(self) -> None:
        """The registry answered somebody who had lost it. Only those who wait now are woken."""
        pulse, self._pulse = self._pulse, asyncio.Event()
        pulse.set()
