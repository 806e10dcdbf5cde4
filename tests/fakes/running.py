"""Runs what a daemon would run, for as long as a test needs it."""

import asyncio
from collections.abc import AsyncIterator, Coroutine
from contextlib import asynccontextmanager


@asynccontextmanager
async def running(*parts: Coroutine[None, None, None]) -> AsyncIterator[None]:
    """All parts run inside the block; a part that failed fails the test at its end."""
    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(part) for part in parts]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        ended = await asyncio.gather(*tasks, return_exceptions=True)
    for outcome in ended:
        if isinstance(outcome, Exception):
            raise outcome
