"""Consul's catalogue followed: the same events as watches of `services/<name>/` and `services/` give on other stores.

A watch is one blocking query: of one service, so that a change moves its answer and no more, or of everything. Index
rules as in `consul`: back to 0 on any error and when an index goes backwards; an answer is always compared with what
was known. Reads that wait take any server's word (`stale`); whatever follows an error or a lower index is asked of the
leader. Consul shows nothing where a token has no rights: an answer that is empty all of a sudden is believed when the
names of services can be read.
"""

import re
import time
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping

import msgspec

from registry import values
from registry.backends.consul import BACKOFF, IDLE_PAUSE, MAX_WAIT, Backoff
from registry.backends.consul_service import name as mapped
from registry.backends.consul_services import Answer, Services
from registry.errors import Corrupt, NotFound, TooLarge, Unavailable
from registry.model import Instance
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent

MARKED = re.compile(r"-[0-9a-f]{12}\Z")  # the mesh's name of a service that Consul spells in another alphabet


class Follower:
    """What one watch has said, and what it has to say next. Decides only."""

    def __init__(self) -> None:
        self._known: Mapping[str, Entry] | None = None
        self._lost = False
        self._anew = True

    @property
    def empty(self) -> bool:
        """Nothing was there when it was last read."""
        return self._known is not None and not self._known

    def lost(self, reason: str) -> Iterator[WatchEvent]:
        """Contact is lost: what is gone when it is back was not seen going."""
        self._anew = True
        if not self._lost:
            self._lost = True
            yield Lost(reason)

    def begin_anew(self) -> None:
        """The index went backwards: what the store lacks now has not been deregistered."""
        self._anew = True

    def take(self, index: int, entries: Mapping[str, Entry]) -> Iterator[WatchEvent]:
        before, anew = self._known, self._anew
        self._known, self._anew, self._lost = entries, False, False
        if before is None or anew:
            yield Resync(index, tuple(entries[key] for key in sorted(entries)))
            return
        yield from _changes(before, index, entries)


def _changes(before: Mapping[str, Entry], index: int, after: Mapping[str, Entry]) -> Iterator[WatchEvent]:
    puts = [entry for key, entry in after.items() if _differs(before.get(key), entry)]
    gone = sorted(before.keys() - after.keys())
    # Other tools know no withdrawal: deregistering is their way to say that it is meant
    marked = [entry for key in gone if (entry := _withdrawn(before[key])) is not None]
    if marked:
        yield Batch(index, tuple(marked), ())
    if puts or gone:
        yield Batch(index, tuple(puts), tuple(gone))
    else:
        yield Alive(index)


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
    """Watches and waits. `age` and `led`: of the last answer, how far behind the leader it may be (s)."""

    def __init__(
        self,
        services: Services,
        *,
        wait: float = MAX_WAIT,
        backoff: Backoff = BACKOFF,
        closed: Callable[[], bool] = lambda: False,
    ) -> None:
        self._services = services
        self._wait = wait
        self._backoff = backoff
        self._closed = closed
        self.age = 0.0
        self.led = True

    async def watch(self, service: str = "") -> AsyncGenerator[WatchEvent, None]:
        """As `Store.watch` of a service's prefix, or of `services/` without a name. Raises Denied."""
        follower = Follower()
        ask = last = failures = idle = 0
        while not self._closed():
            asked = time.monotonic()
            try:
                answer = await self._answer(service, ask, follower.empty)
            except (Unavailable, NotFound, TooLarge) as error:
                ask = 0
                if self._closed():
                    return
                for event in follower.lost(str(error)):
                    yield event
                await self._backoff.pause(self._backoff.after(failures))
                failures = min(failures + 1, 16)
                continue
            failures = 0
            if answer.index < last:
                follower.begin_anew()
                last = 0
                if ask:  # restored or wiped: asked again, of the leader, before it is believed
                    ask = 0
                    continue
            early = answer.index == last and time.monotonic() - asked < self._wait / 2
            idle = idle + 1 if early else 0
            last = answer.index
            ask = 0 if early and ask else last  # early and unchanged: a restored store ends waits so, with old answers
            for event in follower.take(answer.index, answer.entries):
                yield event
            if idle > 1:  # the server does not block: do not spin
                await self._backoff.pause(min(0.1, IDLE_PAUSE * idle))

    async def _answer(self, service: str, ask: int, empty: bool) -> Answer:
        if not service:
            answer = await self._services.everything(ask, self._wait)
        else:
            answer = await self._services.service(await self.raw(service), ask, self._wait)
            if not answer.entries and not empty:
                await self._services.names(0, 0.0)  # raises Denied where nothing is shown for want of rights
        self.age, self.led = answer.age, answer.led
        return answer

    async def raw(self, service: str) -> str:
        """Consul's spelling of a service that the mesh knows by this name."""
        if not MARKED.search(service):
            return service
        names = (await self._services.names(0, 0.0)).names
        return next((one for one in names if mapped(one) == service), service)

    async def index(self, service: str = "") -> int:
        """At which a service last changed; anything of the catalogue without a name."""
        return (await self._read(service, 0)).index

    async def wait_index(self, service: str, after: int) -> int:
        """The first index of the service that is not `after`."""
        while (found := (await self._read(service, after)).index) == after:
            pass
        return found

    async def _read(self, service: str, after: int) -> Answer:
        if not service:
            return await self._services.everything(after, self._wait)
        return await self._services.service(await self.raw(service), after, self._wait)
