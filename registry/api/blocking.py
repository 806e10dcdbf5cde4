"""Blocking queries: answer when the index of what was read is no longer the one that the client has.

https://developer.hashicorp.com/consul/api-docs/features/blocking: `index` and `wait` (5 min by default, 10 at most,
lengthened by up to 1/16 so that the clients of one change do not come back in one moment). One difference: an index
above the store's is answered at once, where Consul blocks for the whole wait; it means that the store was wiped or
restored, and the client shall read again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from registry import durations, keys
from registry.api.answers import Problem
from registry.store import SessionStore

DEFAULT_WAIT = 300.0  # seconds, Consul's
MAX_WAIT = 600.0
MAX_INDEX = 2**64 - 1


@dataclass(frozen=True)
class Query:
    """`index` 0: answer now. `wait` in seconds, before jitter."""

    index: int
    wait: float


@dataclass(frozen=True)
class Scope:
    """The keys that an answer depends on: one prefix, or one key if `exact`."""

    prefix: str
    exact: bool = False


def parse(query: Mapping[str, str]) -> Query:
    """Raises Problem 400 for what Consul refuses too."""
    if "stale" in query and "consistent" in query:
        raise Problem(400, "Cannot specify ?stale with ?consistent, conflicting semantics.", "stale")
    index = number(query.get("index", "0"))
    if index is None:
        raise Problem(400, "Invalid index", "index", "the X-Consul-Index of an earlier answer")
    wait = durations.parse(query["wait"]) if query.get("wait") else DEFAULT_WAIT
    if wait is None:
        raise Problem(400, "Invalid wait time", "wait", 'like "60s" or "5m"')
    return Query(index, min(wait or DEFAULT_WAIT, MAX_WAIT))


def number(text: str) -> int | None:
    """An unsigned 64-bit number in decimal, or None."""
    if not (text.isascii() and text.isdecimal() and len(text) <= 20):
        return None
    value = int(text)
    return value if value <= MAX_INDEX else None


class Waits:
    """Waits of one application. `random` gives [0, 1). `release` lets all go: shutdown must not take minutes."""

    def __init__(self, random: Callable[[], float]) -> None:
        self._random = random
        self._running: set[asyncio.Timeout] = set()
        self._released = False

    async def index(self, store: SessionStore, query: Query, scopes: Sequence[Scope]) -> int:
        """The index of `scopes`, as soon as it is not the client's, or when its time is over."""
        if query.index == 0 or self._released:
            return await _highest(store, scopes)
        try:
            async with asyncio.timeout(query.wait * (1 + self._random() / 16)) as limit:
                self._running.add(limit)
                try:
                    return await _change(store, query.index, scopes)
                finally:
                    self._running.discard(limit)
        except TimeoutError:
            return await _highest(store, scopes)

    def release(self) -> None:
        self._released = True
        now = asyncio.get_running_loop().time()
        for limit in self._running:
            limit.reschedule(now)


async def _change(store: SessionStore, after: int, scopes: Sequence[Scope]) -> int:
    if len(scopes) == 1:
        return await store.wait_index(scopes[0].prefix, after, exact=scopes[0].exact)
    while True:  # several prefixes of the mesh: each of its changes may be one of ours
        known = await store.index(keys.PREFIX)  # before looking, so that no change falls between
        found = await _highest(store, scopes)
        if found != after:
            return found
        await store.wait_index(keys.PREFIX, known)


async def _highest(store: SessionStore, scopes: Sequence[Scope]) -> int:
    return max([await store.index(scope.prefix, exact=scope.exact) for scope in scopes])
