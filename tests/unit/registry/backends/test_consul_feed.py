"""Twin of `registry/backends/consul_feed.py`: what a watch says over a catalogue that behaves, and one that fails."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing

import pytest
import pytest_asyncio

from registry import keys, values
from registry.backends.consul import Backoff
from registry.backends.consul_feed import Feed, Follower, Picture
from registry.backends.consul_services import Answer
from registry.errors import Unavailable
from registry.model import Address, Instance
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent
from tests.fakes.running import running

WAIT = 0.2


def instance(name: str, service: str = "api", *, meshed: bool = True, port: int = 80) -> Instance:
    inbound = Address(address="10.0.0.2", port=15443) if meshed else None
    return Instance(service=service, node="b", id=name, address="10.0.0.2", port=port, inbound=inbound)


def entry(one: Instance, version: int = 1) -> Entry:
    key = keys.instance(one.service, one.node, one.id)
    return Entry(key=key, value=values.write(one), version=version, created=version)


class FakeServices:
    """A catalogue with Consul's blocking queries. `down` makes every read fail; `asked` are the parts read."""

    def __init__(self, *instances: Instance) -> None:
        self.index = 10
        self.down = False
        self.restored: dict[str, Entry] | None = None  # what is there in truth, while waits end with what was
        self.asked: list[str] = []
        self._now = {entry(one).key: entry(one) for one in instances}
        self._moved = asyncio.Event()

    def write(self, *instances: Instance, gone: tuple[Instance, ...] = (), index: int = 0) -> None:
        self._now |= {entry(one).key: entry(one, self.index) for one in instances}
        for one in gone:
            del self._now[entry(one).key]
        self.index = index or self.index + 1
        self.stir()

    def stir(self) -> None:
        moved, self._moved = self._moved, asyncio.Event()
        moved.set()

    async def names(self, after: int, wait: float) -> Answer:
        await self._wait("names", after, wait)
        return Answer(self.index, 0.0, True, names=frozenset(key.split("/")[3] for key in self._now))

    async def service(self, name: str, after: int, wait: float) -> Answer:
        await self._wait(name, after, wait)
        mine = {key: one for key, one in self._now.items() if key.split("/")[3] == name}
        return Answer(self.index, 0.5, True, entries=mine)

    async def everything(self, after: int, wait: float) -> Answer:
        await self._wait("everything", after, wait)
        return Answer(self.index, 0.0, True, entries=dict(self._now))

    async def _wait(self, part: str, after: int, wait: float) -> None:
        self.asked.append(part)
        if self.restored is not None and after == 0:
            self._now, self.index, self.restored = self.restored, 3, None
        if after == self.index and not self.down:
            try:
                async with asyncio.timeout(wait):
                    await self._moved.wait()
            except TimeoutError:
                pass
        if self.down:
            raise Unavailable("nobody answers")


class Watched:
    """A feed that runs, and the events of one watch of it."""

    def __init__(self, services: FakeServices, queries: int = 100) -> None:
        backoff = Backoff(pause=lambda seconds: asyncio.sleep(0.001))
        self.services = services
        self.feed = Feed(services, wait=WAIT, queries=queries, backoff=backoff)  # type: ignore[arg-type]  # a fake that behaves like it
        self.events = self.feed.watch()

    async def next(self, kind: type[WatchEvent]) -> WatchEvent:
        """The next event that is no sign of life, which must be of this kind."""
        async with asyncio.timeout(5):
            while isinstance(event := await anext(self.events), Alive) and kind is not Alive:
                pass
        assert isinstance(event, kind), event
        return event


@pytest_asyncio.fixture
async def watched() -> AsyncIterator[Watched]:
    one = Watched(FakeServices(instance("1"), instance("2", "web")))
    async with running(one.feed.run()), aclosing(one.events):
        yield one


async def test_the_first_event_is_everything_and_then_come_changes(watched: Watched) -> None:
    first = await watched.next(Resync)
    assert isinstance(first, Resync)
    assert [one.key for one in first.entries] == [entry(instance("1")).key, entry(instance("2", "web")).key]
    watched.services.write(instance("1", port=81))
    change = await watched.next(Batch)
    assert isinstance(change, Batch)
    assert [values.read_instance(one.key, one.value).port for one in change.puts] == [81]
    assert change.deletes == ()


async def test_silence_is_a_sign_of_life(watched: Watched) -> None:
    await watched.next(Resync)
    await watched.next(Alive)


async def test_a_new_service_is_followed_and_one_that_ends_is_told(watched: Watched) -> None:
    await watched.next(Resync)
    db = instance("3", "db")
    watched.services.write(db)
    change = await watched.next(Batch)
    assert isinstance(change, Batch)
    assert [one.key for one in change.puts] == [entry(db).key]
    watched.services.write(gone=(db,))
    change = await watched.next(Batch)
    assert isinstance(change, Batch)
    assert change.deletes == (entry(db).key,)
    watched.services.write(db)
    change = await watched.next(Batch)
    assert isinstance(change, Batch)
    assert [one.key for one in change.puts] == [entry(db).key], "it came back"


async def test_lost_is_said_once_and_everything_again_when_it_is_back(watched: Watched) -> None:
    await watched.next(Resync)
    watched.services.down = True
    watched.services.stir()
    lost = await watched.next(Lost)
    assert isinstance(lost, Lost)
    assert "nobody answers" in lost.reason
    watched.services.down = False
    await watched.next(Resync)


async def test_who_did_not_look_while_contact_was_lost_is_told_everything_anew(watched: Watched) -> None:
    """Found as: a wiped Consul that was back before anybody looked passed for many deregistrations."""
    await watched.next(Resync)
    watched.services.down = True
    watched.services.stir()
    async with asyncio.timeout(5):
        while not watched.feed.picture.problem:
            await watched.feed.changed()
        watched.services.down = False
        watched.services.write(gone=(instance("1"),))
        while watched.feed.picture.problem:
            await watched.feed.changed()
    event = await watched.next(Resync)
    assert isinstance(event, Resync)
    assert [one.key for one in event.entries] == [entry(instance("2", "web")).key]


async def test_a_lower_index_is_asked_again_and_then_it_is_everything(watched: Watched) -> None:
    """A wiped or restored Consul: what it lacks has not been deregistered."""
    await watched.next(Resync)
    watched.services.write(gone=(instance("1"),), index=3)
    event = await watched.next(Resync)
    assert isinstance(event, Resync)
    assert [one.key for one in event.entries] == [entry(instance("2", "web")).key]


async def test_a_restored_catalogue_is_read_at_once_although_waits_end_with_the_old_one(watched: Watched) -> None:
    await watched.next(Resync)
    watched.services.restored = {entry(instance("9")).key: entry(instance("9"))}
    watched.services.stir()
    event = await watched.next(Resync)
    assert isinstance(event, Resync)
    while [one.key for one in event.entries] != [entry(instance("9")).key]:
        event = await watched.next(Resync)
        assert isinstance(event, Resync)


async def test_beyond_the_limit_one_query_replaces_them_all() -> None:
    many = Watched(FakeServices(*(instance("1", f"s{n}") for n in range(3))), queries=3)
    async with running(many.feed.run()), aclosing(many.events):
        await many.next(Resync)
        many.services.write(instance("1", "s3"))
        change = await many.next(Batch)
        assert isinstance(change, Batch)
        assert [one.key for one in change.puts] == [entry(instance("1", "s3")).key]
        many.services.write(gone=(instance("1", "s0"),))
        change = await many.next(Batch)
        assert isinstance(change, Batch)
        assert change.deletes == (entry(instance("1", "s0")).key,)
        many.services.asked.clear()
        many.services.write(instance("1", "s0", port=81))
        await many.next(Batch)
        assert set(many.services.asked) <= {"names", "everything"}


async def test_indexes_of_a_service_and_of_all(watched: Watched) -> None:
    assert Watched(FakeServices()).feed.index() == 1
    await watched.next(Resync)
    assert watched.feed.index("api") == watched.feed.index() == 10
    assert watched.feed.index("nobody") == 10
    waiting = watched.feed.changed()
    watched.services.write(instance("1", port=82))
    async with asyncio.timeout(5):
        await waiting
        await watched.next(Batch)
    assert watched.feed.index() == 11
    assert watched.feed.age in (0.0, 0.5)


async def test_a_wait_of_somebody_else_is_ended_by_a_change(watched: Watched) -> None:
    await watched.next(Resync)

    async def wait() -> None:
        async with asyncio.timeout(None) as limit:
            watched.feed.waking(limit)
            watched.services.write(instance("1", port=83))
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await wait()


def pictures(*before: Instance) -> Picture:
    return Picture(entries={entry(one).key: entry(one) for one in before}, index=1, complete=True)


def test_a_foreign_instance_that_goes_left_on_purpose_and_a_meshed_one_did_not() -> None:
    """Other tools know no withdrawal; a meshd always marks first."""
    foreign, meshed = instance("f", meshed=False), instance("m")
    follower = Follower()
    list(follower.take(pictures(foreign, meshed)))
    first, second = follower.take(pictures())
    assert isinstance(first, Batch)
    assert [values.read_instance(one.key, one.value).state for one in first.puts] == ["withdrawn"]
    assert [one.key for one in first.puts] == [entry(foreign).key]
    assert isinstance(second, Batch)
    assert set(second.deletes) == {entry(foreign).key, entry(meshed).key}


def test_nothing_is_said_before_everything_was_read_once() -> None:
    follower = Follower()
    assert list(follower.take(Picture(index=5))) == []
    assert isinstance(next(iter(follower.take(Picture(index=5, complete=True)))), Resync)
