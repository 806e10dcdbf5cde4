"""Twin of `registry/backends/consul_feed.py`: what a watch says over a catalogue that behaves, and one that fails."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing

import pytest
import pytest_asyncio

from registry import keys, values
from registry.backends.consul import Backoff
from registry.backends.consul_feed import Feed, Follower
from registry.backends.consul_service import name
from registry.backends.consul_services import Answer
from registry.errors import Denied, Unavailable
from registry.model import Address, Instance
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent

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
        self.blind = False  # the token may read nothing any more: Consul shows no services, and no error
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
        if self.blind:
            raise Denied("services: Consul shows none, not even its own")
        return Answer(self.index, 0.0, True, names=frozenset(key.split("/")[3] for key in self._now))

    async def service(self, name: str, after: int, wait: float) -> Answer:
        await self._wait(name, after, wait)
        mine = {key: one for key, one in self._now.items() if key.split("/")[3] == name and not self.blind}
        return Answer(self.index, 0.5, True, entries=mine)

    async def everything(self, after: int, wait: float) -> Answer:
        await self._wait("everything", after, wait)
        return Answer(self.index, 0.0, True, entries=dict(self._now))

    async def _wait(self, part: str, after: int, wait: float) -> None:
        self.asked.append(part)
        if self.restored is not None and after == 0:
            self._now, self.index, self.restored = self.restored, 3, None
        elif self.restored is not None:
            return
        if after == self.index and not self.down:
            try:
                async with asyncio.timeout(wait):
                    await self._moved.wait()
            except TimeoutError:
                pass
        if self.down:
            raise Unavailable("nobody answers")


class Watched:
    """A feed, and the events of one watch of it."""

    def __init__(self, services: FakeServices, service: str = "") -> None:
        backoff = Backoff(pause=lambda seconds: asyncio.sleep(0.001))
        self.services = services
        self.feed = Feed(services, wait=WAIT, backoff=backoff)  # type: ignore[arg-type]  # a fake that behaves like it
        self.events = self.feed.watch(service)

    async def next(self, kind: type[WatchEvent]) -> WatchEvent:
        """The next event that is no sign of life, which must be of this kind."""
        async with asyncio.timeout(5):
            while isinstance(event := await anext(self.events), Alive) and kind is not Alive:
                pass
        assert isinstance(event, kind), event
        return event


@pytest_asyncio.fixture(params=["", "api"], ids=["everything", "one service"])
async def watched(request: pytest.FixtureRequest) -> AsyncIterator[Watched]:
    one = Watched(FakeServices(instance("1"), instance("2")), request.param)
    async with aclosing(one.events):
        yield one


async def test_the_first_event_is_everything_and_then_come_changes(watched: Watched) -> None:
    first = await watched.next(Resync)
    assert isinstance(first, Resync)
    assert [one.key for one in first.entries] == [entry(instance("1")).key, entry(instance("2")).key]
    watched.services.write(instance("1", port=81))
    change = await watched.next(Batch)
    assert isinstance(change, Batch)
    assert [values.read_instance(one.key, one.value).port for one in change.puts] == [81]
    assert change.deletes == ()


async def test_silence_is_a_sign_of_life(watched: Watched) -> None:
    await watched.next(Resync)
    await watched.next(Alive)


async def test_a_service_is_told_of_itself_alone() -> None:
    one = Watched(FakeServices(instance("1"), instance("2", "web")), "web")
    async with aclosing(one.events):
        first = await one.next(Resync)
        assert isinstance(first, Resync)
        assert [found.key for found in first.entries] == [entry(instance("2", "web")).key]
        one.services.write(instance("1", port=81))
        one.services.write(instance("2", "web", port=82))
        change = await one.next(Batch)
        assert isinstance(change, Batch)
        assert [found.key for found in change.puts] == [entry(instance("2", "web")).key]
    assert set(one.services.asked) == {"web"}


async def test_a_service_that_comes_and_goes_is_told() -> None:
    one = Watched(FakeServices(instance("1")), "db")
    db = instance("3", "db")
    async with aclosing(one.events):
        assert await one.next(Resync) == Resync(10, ())
        one.services.write(db)
        change = await one.next(Batch)
        assert isinstance(change, Batch)
        assert [found.key for found in change.puts] == [entry(db).key]
        one.services.write(gone=(db,))
        change = await one.next(Batch)
        assert isinstance(change, Batch)
        assert change.deletes == (entry(db).key,)
        one.services.write(db)
        change = await one.next(Batch)
        assert isinstance(change, Batch)
        assert [found.key for found in change.puts] == [entry(db).key], "it came back"


async def test_an_empty_answer_is_believed_where_names_can_be_read() -> None:
    """Consul shows nothing, and no error, to a token without rights."""
    one = Watched(FakeServices(instance("1")), "api")
    async with aclosing(one.events):
        await one.next(Resync)
        one.services.blind = True
        one.services.stir()
        with pytest.raises(Denied):
            await one.next(Batch)


async def test_a_service_in_another_alphabet_is_asked_for_as_consul_spells_it() -> None:
    odd = name("odd name")
    services = FakeServices(instance("1", "odd name"))
    assert await Watched(services).feed.raw(odd) == "odd name"
    assert await Watched(services).feed.raw("web") == "web"
    assert services.asked == ["names"]


async def test_lost_is_said_once_and_everything_again_when_it_is_back(watched: Watched) -> None:
    await watched.next(Resync)
    watched.services.down = True
    watched.services.stir()
    lost = await watched.next(Lost)
    assert isinstance(lost, Lost)
    assert "nobody answers" in lost.reason
    watched.services.down = False
    await watched.next(Resync)


async def test_a_lower_index_is_asked_again_and_then_it_is_everything(watched: Watched) -> None:
    """A wiped or restored Consul: what it lacks has not been deregistered."""
    await watched.next(Resync)
    watched.services.write(gone=(instance("1"),), index=3)
    event = await watched.next(Resync)
    assert isinstance(event, Resync)
    assert [one.key for one in event.entries] == [entry(instance("2")).key]


async def test_a_restored_catalogue_is_read_at_once_although_waits_end_with_the_old_one(watched: Watched) -> None:
    await watched.next(Resync)
    watched.services.restored = {entry(instance("9")).key: entry(instance("9"))}
    event = await watched.next(Resync)
    assert isinstance(event, Resync)
    while [one.key for one in event.entries] != [entry(instance("9")).key]:
        event = await watched.next(Resync)
        assert isinstance(event, Resync)


async def test_indexes_of_a_service_and_of_all(watched: Watched) -> None:
    assert await watched.feed.index() == await watched.feed.index("api") == 10

    async def write() -> None:
        watched.services.write(instance("1", port=82))

    found, _ = await asyncio.gather(watched.feed.wait_index("api", 10), write())
    assert found == 11
    assert await watched.feed.wait_index("", 10) == 11
    await watched.next(Resync)
    assert watched.feed.age in (0.0, 0.5)


def known(*instances: Instance) -> dict[str, Entry]:
    return {entry(one).key: entry(one) for one in instances}


def test_a_foreign_instance_that_goes_left_on_purpose_and_a_meshed_one_did_not() -> None:
    """Other tools know no withdrawal; a meshd always marks first."""
    foreign, meshed = instance("f", meshed=False), instance("m")
    follower = Follower()
    list(follower.take(1, known(foreign, meshed)))
    first, second = follower.take(2, {})
    assert isinstance(first, Batch)
    assert [values.read_instance(one.key, one.value).state for one in first.puts] == ["withdrawn"]
    assert [one.key for one in first.puts] == [entry(foreign).key]
    assert isinstance(second, Batch)
    assert set(second.deletes) == {entry(foreign).key, entry(meshed).key}


@pytest.mark.parametrize("doubt", [lambda one: list(one.lost("away")), lambda one: one.begin_anew()])
def test_what_is_gone_after_a_doubt_was_not_deregistered(doubt: Callable[[Follower], object]) -> None:
    """Found as: a wiped Consul that was back before anybody looked passed for many deregistrations."""
    follower = Follower()
    list(follower.take(5, known(instance("f", meshed=False))))
    doubt(follower)
    assert list(follower.take(3, {})) == [Resync(3, ())]
