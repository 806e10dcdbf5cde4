"""Several registries as one store: instances and leases of all of them, everything else of the home registry alone.

The rules of what counts are `registry.merge`'s. Written is the home registry; a further one is written by the
catalogue and the lease that belong to it. A watch of what is merged always begins with a Resync, whatever `after`
says: a merged index is two numbers, and the watches below it resume by themselves what can be resumed.
"""

import asyncio
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from registry import keys
from registry.errors import RegistryError, Unavailable
from registry.merge import Copy, Merge, Rule, chosen
from registry.race import first
from registry.store import (
    Behavior,
    Behind,
    Entry,
    Lease,
    Listing,
    Lost,
    Op,
    Replicated,
    Resync,
    SessionStore,
    Watch,
    WatchEvent,
)

MERGED = (keys.SERVICES, keys.LEASES)
FIRST_PAUSE = 0.1  # seconds, doubled with each failure, then any part of it
LONGEST_PAUSE = 10.0

T = TypeVar("T")
Heard = Callable[[str, str, WatchEvent], None]  # registry, selector, event


def unheard(_registry: str, _selector: str, _event: WatchEvent) -> None:
    """Nobody listens."""


@dataclass(frozen=True)
class Member:
    """`contact` is called when the registry answers after it was lost; `pause` waits between two tries."""

    name: str
    store: SessionStore
    contact: Callable[[], None] = lambda: None
    pause: Callable[[float], Awaitable[None]] = asyncio.sleep


class UnionStore:
    """A `registry.store.SessionStore`. `members` in order of precedence, the home registry first.

    `heard` is told every event of each registry's watches, before it is merged.
    """

    def __init__(self, members: Sequence[Member], *, rule: Rule = "union", heard: Heard = unheard) -> None:
        self._members = tuple(members)
        self._home = members[0].store
        self._rule = rule
        self.heard = heard
        self._running: dict[str, Merge] = {}  # by selector: of the youngest watch
        self._indexes: dict[str, int] = {}  # of each registry, as last seen
        self._origins: dict[str, int] = {}  # of each further one, as first seen
        self.max_value = self._home.max_value
        budgets = [one.store.max_watches for one in self._members if one.store.max_watches is not None]
        self.max_watches = min(budgets, default=None)

    # ---- reads --------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        """A registry out of contact counts with what a running watch last heard of it. Raises Unavailable when that
        is not known and no other has the key."""
        if not key.startswith(MERGED):
            return await self._home.get(key)
        reads = [self._read(member, key, partial(member.store.get, key)) for member in self._members]
        copies: list[Copy] = []
        failed: RegistryError | None = None
        for member, found in zip(self._members, await _all(reads), strict=True):
            entry = self._known(member.name, key).get(key) if isinstance(found, RegistryError) else found
            if entry is not None:
                copies.append(Copy(entry, found is entry))
            elif isinstance(found, RegistryError):
                failed = found
        best = chosen(copies)
        if best is None and failed is not None:
            raise failed
        return best.entry if best is not None else None

    async def list(self, prefix: str) -> Listing:
        """As `get`; raises Unavailable when a registry out of contact is not followed below the prefix."""
        if not prefix.startswith(MERGED):
            return await self._home.list(prefix)
        reads = [self._read(member, prefix, partial(member.store.list, prefix)) for member in self._members]
        merge, answers = self._merge(), await _all(reads)
        for member, found in zip(self._members, answers, strict=True):
            event: WatchEvent
            if isinstance(found, Listing):
                event = Resync(found.index, found.entries)
            elif self._watching(prefix) is None or all(isinstance(one, RegistryError) for one in answers):
                raise found
            else:
                inside = (entry for key, entry in self._known(member.name, prefix).items() if key.startswith(prefix))
                event = Resync(0, tuple(inside))
            merge.take(member.name, event)
            if isinstance(found, RegistryError):
                merge.take(member.name, Lost(str(found)))
        return Listing(tuple(merge.entries[key] for key in sorted(merge.entries)), merge.index)

    async def _read(self, member: Member, key: str, read: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Not asked while it is known to be out of contact: a frozen one would hold up every reader."""
        reason = self._lost(member.name, key)
        if reason:
            raise Unavailable(f"registry {member.name}: {reason}")
        return await read()

    def _lost(self, name: str, key: str) -> str:
        """Why a registry is out of contact, as the watch of the key has it, or any other that is not refused."""
        watching = self._watching(key)
        if watching is not None:
            return watching.lost(name)
        reasons = (merge.lost(name) for merge in self._running.values())
        return next((one for one in reasons if one and not one.startswith("Denied")), "")

    def _watching(self, key: str) -> Merge | None:
        for selector, merge in self._running.items():
            if key == selector or (selector.endswith("/") and key.startswith(selector)):
                return merge
        return None

    def _known(self, name: str, key: str) -> Mapping[str, Entry]:
        watching = self._watching(key)
        return watching.known(name) if watching is not None else {}

    def last_known(self, name: str) -> frozenset[str]:
        """Instances of one registry as running watches last heard them, as `<service>/<node>/<id>`."""
        found = (merge.known(name) for selector, merge in self._running.items() if selector.startswith(keys.SERVICES))
        return frozenset(key.removeprefix(keys.SERVICES) for entries in found for key in entries)

    def _merge(self) -> Merge:
        return Merge((member.name for member in self._members), self._rule)

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        """The home registry's, and by how much those of the others have grown, whatever the prefix: it may move
        without a change below the prefix."""
        del exact
        found = await _all([self._read(one, prefix, partial(one.store.index, keys.PREFIX)) for one in self._members])
        for member, index in zip(self._members, found, strict=True):
            if isinstance(index, int):
                self._indexes[member.name] = index
                self._origins.setdefault(member.name, 0 if member is self._members[0] else index)
            elif len(found) == 1 or not any(isinstance(one, int) for one in found):
                raise index
        return sum(index - self._origins[name] for name, index in self._indexes.items())

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        """Ends by a change below the prefix in a registry that is in contact, or at once."""
        merged = prefix.startswith(MERGED) or keys.SERVICES.startswith(prefix)
        members = self._members if merged else self._members[:1]
        reads = [self._read(one, prefix, partial(one.store.index, prefix, exact=exact)) for one in members]
        seen = await _all(reads)  # before looking, so that no change falls between
        found = await self.index(prefix)
        if found != after:
            return found
        waits = [
            partial(one.store.wait_index, prefix, index, exact=exact)
            for one, index in zip(members, seen, strict=True)
            if isinstance(index, int)
        ]
        await first(*waits)
        return await self.index(prefix)

    def behind(self) -> Behind:
        """Of the home registry."""
        return self._home.behind() if isinstance(self._home, Replicated) else Behind(-1.0, True)

    # ---- the home registry's alone --------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        return await self._home.put(key, value, expect=expect, lease=lease, flags=flags)

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        return await self._home.delete(key, expect=expect)

    async def transact(self, ops: Sequence[Op]) -> int:
        return await self._home.transact(ops)

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str:
        return await self._home.grant(ttl, name=name, behavior=behavior)

    async def renew(self, lease: str) -> None:
        await self._home.renew(lease)

    async def revoke(self, lease: str) -> None:
        await self._home.revoke(lease)

    async def leases(self) -> tuple[Lease, ...]:
        return await self._home.leases()

    async def acquire(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        return await self._home.acquire(key, value, lease, flags=flags)

    async def release(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        return await self._home.release(key, value, lease, flags=flags)

    # ---- watches ------------------------------------------------------------------------------------------------

    def watch(self, prefix: str, *, after: int | None = None) -> Watch:
        """`prefix`: as the registries' own watches take it."""
        if prefix.startswith(MERGED):
            return self._watch(prefix)
        return self._home.watch(prefix, after=after)

    async def _watch(self, selector: str) -> AsyncGenerator[WatchEvent, None]:
        merge = self._merge()
        self._running[selector] = merge
        try:
            async with aclosing(self._events(selector)) as events:
                async for name, event in events:
                    if event is None:
                        return  # the stores were closed
                    self.heard(name, selector, event)
                    for merged in merge.apply(name, event):
                        yield merged
        finally:
            if self._running.get(selector) is merge:
                del self._running[selector]

    async def _events(self, selector: str) -> AsyncGenerator[tuple[str, WatchEvent | None], None]:
        """The events of all registries as they come, each with its registry's name; None: there are no more."""
        follows = {member.name: _Follow(member, selector).events() for member in self._members}
        waiting: dict[str, asyncio.Future[Any]] = {}
        try:
            while True:
                for name in follows.keys() - waiting.keys():
                    waiting[name] = asyncio.gather(anext(follows[name], None))
                done, _ = await asyncio.wait(waiting.values(), return_when=asyncio.FIRST_COMPLETED)
                for name in [name for name, future in waiting.items() if future in done]:
                    yield name, waiting.pop(name).result()[0]
        finally:
            await _end(waiting.values())
            for follow in follows.values():
                await follow.aclose()

    async def close(self) -> None:
        """Closes all registries."""
        await asyncio.gather(*(member.store.close() for member in self._members))


class _Follow:
    """One registry's watch; what it refuses is Lost, and tried again: the other goes on. Ends with its store."""

    def __init__(self, member: Member, selector: str) -> None:
        self._member = member
        self._selector = selector
        self._after: int | None = None
        self._failures = 0
        self._lost = False

    async def events(self) -> AsyncGenerator[WatchEvent, None]:
        failed = True
        while failed:
            failed = False
            async with aclosing(self._once()) as events:
                async for event in events:
                    failed = isinstance(event, Lost)
                    if self._is_news(event):
                        yield event
            if failed:
                await self._pause()

    async def _once(self) -> AsyncGenerator[WatchEvent, None]:
        """Ends with a Lost when it is to be tried again."""
        try:
            async with aclosing(self._member.store.watch(self._selector, after=self._after)) as events:
                async for event in events:
                    yield event
        except RegistryError as error:
            yield Lost(f"{type(error).__name__}: {error}")

    def _is_news(self, event: WatchEvent) -> bool:
        before = self._lost
        if isinstance(event, Lost):
            self._lost = True
            return not before
        self._lost, self._failures, self._after = False, 0, event.index
        if before:
            self._member.contact()
        return True

    async def _pause(self) -> None:
        pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**self._failures)
        self._failures = min(self._failures + 1, 16)
        await self._member.pause(random.random() * pause)


async def _all(reads: Sequence[Coroutine[Any, Any, T]]) -> list[T | RegistryError]:
    """All of them at once; what a registry refuses is its answer."""
    found = await asyncio.gather(*reads, return_exceptions=True)
    for one in found:
        if isinstance(one, BaseException) and not isinstance(one, RegistryError):
            raise one
    return found  # type: ignore[return-value]  # other exceptions were raised


async def _end(futures: Iterable["asyncio.Future[Any]"]) -> None:
    running = list(futures)
    for future in running:
        future.cancel()
    await asyncio.gather(*running, return_exceptions=True)
