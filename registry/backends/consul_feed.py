"""Consul's catalogue followed: the same events as a watch of `services/` gives on other stores.

Up to 100 services each have a blocking query of their own, so that a change moves one service's answer and no more;
beyond that one query for everything replaces them, for good. Index rules as in `consul`: back to 0 on any error and
when an index goes backwards; an answer is always compared with what was known. Reads that wait take any server's word
(`stale`); whatever follows an error or a lower index is asked of the leader.
"""

import asyncio
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Mapping
from functools import partial

import msgspec

from registry import values
from registry.backends.consul import BACKOFF, IDLE_PAUSE, MAX_WAIT, Backoff
from registry.backends.consul_service import name as mapped
from registry.backends.consul_services import Answer, Services
from registry.errors import Corrupt, RegistryError
from registry.model import Instance
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent

QUERIES = 100  # blocking queries of one host: beyond, Consul's servers pay more for them than for whole answers
NAMES = "/names"  # parts that are no service: no name begins with a slash
ALL = "/all"

Read = Callable[[int, float], Awaitable[Answer]]


class Picture(msgspec.Struct, frozen=True):
    """The catalogue as last read. `problem`: contact is lost. `epoch` moves whenever contact was lost or the index
    went backwards: who was not looking at that moment must not take what is gone for deregistered."""

    entries: Mapping[str, Entry] = {}
    index: int = 0
    epoch: int = 0
    complete: bool = False
    problem: str = ""


class Follower:
    """What one watch has said, and what it has to say next. Decides only."""

    def __init__(self) -> None:
        self._said: Picture | None = None
        self._lost = False

    def take(self, picture: Picture) -> Iterator[WatchEvent]:
        if picture.problem:
            if not self._lost:
                self._lost = True
                yield Lost(picture.problem)
            return
        if not picture.complete:
            return
        before, lost = self._said, self._lost
        self._said, self._lost = picture, False
        if before is None or lost or before.epoch != picture.epoch:
            yield Resync(picture.index, tuple(picture.entries[key] for key in sorted(picture.entries)))
            return
        yield from _changes(before, picture)


def _changes(before: Picture, after: Picture) -> Iterator[WatchEvent]:
    puts = [entry for key, entry in after.entries.items() if _differs(before.entries.get(key), entry)]
    gone = sorted(before.entries.keys() - after.entries.keys())
    # Other tools know no withdrawal: deregistering is their way to say that it is meant
    marked = [entry for key in gone if (entry := _withdrawn(before.entries[key])) is not None]
    if marked:
        yield Batch(after.index, tuple(marked), ())
    if puts or gone:
        yield Batch(after.index, tuple(puts), tuple(gone))
    else:
        yield Alive(after.index)


def _differs(before: Entry | None, after: Entry) -> bool:
    return before is None or before.value != after.value


def _withdrawn(entry: Entry) -> Entry | None:
    """The entry marked as leaving, for an instance that no meshd has registered."""
    try:
        found = values.read_instance(entry.key, entry.value)
    except Corrupt:
        return None
    return None if found.inbound is not None and not found.adopted else _marked(entry, found)


def _marked(entry: Entry, found: Instance) -> Entry:
    marked = values.write(msgspec.structs.replace(found, state="withdrawn"))
    return msgspec.structs.replace(entry, value=marked)


class Feed:
    """`run` reads, `watch` tells. `age` and `led`: of the last answer, how far behind the leader it may be (s)."""

    def __init__(
        self, services: Services, *, wait: float = MAX_WAIT, queries: int = QUERIES, backoff: Backoff = BACKOFF
    ) -> None:
        self._services = services
        self._wait = wait
        self._queries = queries
        self._backoff = backoff
        self._names: frozenset[str] | None = None
        self._parts: dict[str, Answer] = {}  # the last answer of each part
        self._failing: dict[str, str] = {}  # parts without contact, and why
        self._assigned: set[str] = set()
        self._waiting: asyncio.Queue[str] = asyncio.Queue()
        self._whole = asyncio.Event()
        self._news = asyncio.Event()
        self._limits: set[asyncio.Timeout] = set()
        self.picture = Picture()
        self.age = 0.0
        self.led = True

    # ---- what others ask --------------------------------------------------------------------------------------------

    async def watch(self) -> AsyncGenerator[WatchEvent, None]:
        """As `Store.watch(SERVICES)`: the first event is a Resync."""
        follower = Follower()
        while True:
            news = self._news
            for event in follower.take(self.picture):
                yield event
            await news.wait()

    def index(self, service: str = "") -> int:
        """At which a service last changed; of all without a name. 1: nothing was read yet."""
        if service and not self._whole.is_set():
            part = self._parts.get(self.raw(service)) or self._parts.get(NAMES)
            return part.index if part is not None else 1
        return max(self.picture.index, 1)

    def raw(self, service: str) -> str:
        """Consul's spelling of a service that the mesh knows by this name."""
        return next((one for one in self._names or () if mapped(one) == service), service)

    async def changed(self) -> None:
        """Until the next answer."""
        await self._news.wait()

    def waking(self, limit: asyncio.Timeout) -> None:
        """End this wait with the next answer that changes something."""
        self._limits.add(limit)

    def unwaking(self, limit: asyncio.Timeout) -> None:
        self._limits.discard(limit)

    # ---- reading ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow names and services, for ever."""
        services = self._services
        names = self._follow(NAMES, services.names, lambda: True)
        # a fixed number of readers: each takes a service, follows it to its end, and takes the next
        await asyncio.gather(names, self._everything(), *(self._reader() for _ in range(self._queries)))

    async def _reader(self) -> None:
        while True:
            name = await self._waiting.get()
            read = partial(self._services.service, name)
            await self._follow(name, read, partial(self._wants, name))
            self._assigned.discard(name)
            self._forget(name)

    async def _everything(self) -> None:
        await self._whole.wait()
        await self._follow(ALL, self._services.everything, lambda: True)

    def _wants(self, name: str) -> bool:
        """Until it is gone from the names and its last instance was seen going."""
        part = self._parts.get(name)
        return not self._whole.is_set() and (name in (self._names or ()) or bool(part and part.entries))

    async def _follow(self, part: str, read: Read, wanted: Callable[[], bool]) -> None:
        ask = last = failures = idle = 0
        while wanted():
            asked = time.monotonic()
            try:
                answer = await read(ask, self._wait)
            except RegistryError as error:
                ask = 0
                self._failed(part, f"{type(error).__name__}: {error}")
                await self._backoff.pause(self._backoff.after(failures))
                failures = min(failures + 1, 16)
                continue
            failures = 0
            if answer.index < last:
                self._begin_anew()
                last = 0
                if ask:  # restored or wiped: asked again, of the leader, before it is believed
                    ask = 0
                    continue
            early = answer.index == last and time.monotonic() - asked < self._wait / 2
            idle = idle + 1 if early else 0
            last = answer.index
            ask = 0 if early and ask else last  # early and unchanged: a restored store ends waits so, with old answers
            self._take(part, answer)
            if idle > 1:  # the server does not block: do not spin
                await self._backoff.pause(min(0.1, IDLE_PAUSE * idle))

    # ---- what was read ----------------------------------------------------------------------------------------------

    def _take(self, part: str, answer: Answer) -> None:
        self._failing.pop(part, None)
        self.age, self.led = answer.age, answer.led
        if part != ALL and part != NAMES and self._whole.is_set():
            return
        if part == ALL and ALL not in self._parts:
            self._parts = {NAMES: self._parts[NAMES]}
            self._failing.clear()
        self._parts[part] = answer
        if part == NAMES:
            self._assign(answer.names)
        self._show()

    def _assign(self, names: frozenset[str]) -> None:
        self._names = names
        if len(names) > self._queries:
            self._whole.set()
        if self._whole.is_set():
            return
        for name in sorted(names - self._assigned):
            self._assigned.add(name)
            self._waiting.put_nowait(name)

    def _failed(self, part: str, reason: str) -> None:
        if part not in self._failing:
            self._begin_anew()
        self._failing[part] = reason
        self._show()

    def _begin_anew(self) -> None:
        self.picture = msgspec.structs.replace(self.picture, epoch=self.picture.epoch + 1)

    def _forget(self, part: str) -> None:
        self._failing.pop(part, None)
        if not self._whole.is_set():
            self._parts.pop(part, None)
            if part in (self._names or ()):  # it came back while its end was being told
                self._assign(self._names or frozenset())
        self._show()

    def _show(self) -> None:
        """The parts as one picture, told to all who wait."""
        entries: dict[str, Entry] = {}
        for answer in self._parts.values():
            entries |= answer.entries
        self.picture = msgspec.structs.replace(
            self.picture,
            entries=entries,
            index=max((answer.index for answer in self._parts.values()), default=0),
            complete=self.picture.complete or self._listed(),
            problem=next(iter(self._failing.values()), ""),
        )
        news, self._news = self._news, asyncio.Event()
        news.set()
        now = asyncio.get_running_loop().time()
        for limit in self._limits:
            limit.reschedule(now)
        self._limits.clear()

    def _listed(self) -> bool:
        if self._names is None:
            return False
        return ALL in self._parts if self._whole.is_set() else self._names <= self._parts.keys()
