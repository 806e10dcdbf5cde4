"""Waiting until something below a prefix changes: the base of blocking queries over any store.

Semantics of `X-Consul-Index`: https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

import asyncio
from contextlib import aclosing

from registry.store import Alive, Batch, Indexed, Resync, Store


async def wait_change(
    store: Store,
    prefix: str,
    after: int,
    timeout: float,  # noqa: ASYNC109 - it ends the question with an answer, it does not end the call
    *,
    exact: bool = False,
) -> int:
    """The prefix's index once it is another than `after`, or what it is after `timeout` seconds.

    `exact`: the prefix is one key. Answers at once when the index is above `after`, or below it (the caller's index is
    of another store: it must start over). A write elsewhere wakes nobody on an `Indexed` store; on others the answer
    may be early and `after` itself may come back sooner. Raises Unavailable, Denied.
    """
    try:
        async with asyncio.timeout(timeout):
            if isinstance(store, Indexed):
                return await store.wait_index(prefix, after, exact=exact)
            return await _watched(store, prefix, after)
    except TimeoutError:
        return await store.index(prefix, exact=exact) if isinstance(store, Indexed) else after


async def _watched(store: Store, prefix: str, after: int) -> int:
    async with aclosing(store.watch(prefix, after=after)) as events:
        async for event in events:
            if isinstance(event, Batch | Resync) or (isinstance(event, Alive) and event.index < after):
                return event.index
    return after
