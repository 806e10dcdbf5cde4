"""Several waits side by side, of which the first one ends all: without a task that anybody would have to own."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

T = TypeVar("T")


async def first(*parts: Callable[[], Awaitable[T]]) -> T:
    """What the first part to end returns, or raises; the others are cancelled. No part outlives the call."""
    tasks: list[asyncio.Task[Any] | None] = []
    ends: list[T] = []

    async def one(part: Callable[[], Awaitable[T]]) -> None:
        tasks.append(asyncio.current_task())
        ends.append(await part())
        raise _Ended

    try:
        await asyncio.gather(*map(one, parts))
    except _Ended:
        pass
    finally:
        left = [task for task in tasks if task is not None and not task.done()]
        for task in left:
            task.cancel()
        if left:
            await asyncio.wait(left)
    return ends[0]


class _Ended(Exception):
    """A part has ended; what it returned is in the list."""
