"""What only etcd does: compaction, leases that expire, clusters. Outages that every server has: test_outages."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager

import pytest

from registry.backends.etcd import EtcdStore
from registry.backends.etcd_links import Backoff
from registry.errors import NotFound, Unavailable
from registry.store import Batch, Lost, Resync, Watch, WatchEvent
from tests.contract.validators import Truth, apply, honest, ordered, reliable, unique
from tests.etcd_server import Server, newer, older, running_cluster, running_etcd
from tests.fakes.running import running

ROOT = "mesh/v1/test/"
PATIENCE = 30.0  # seconds
pytestmark = [pytest.mark.outages, pytest.mark.timeout(120)]


@pytest.fixture(params=["3.4", "3.7"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_etcd(older() if request.param == "3.4" else newer()) as started:
        yield started


@asynccontextmanager
async def opened(*servers: Server, alive: float = 4.0) -> AsyncIterator[EtcdStore]:
    store = EtcdStore([server.address for server in servers], alive=alive, backoff=Backoff(jitter=lambda: 0.2))
    try:
        async with running(store.run()):
            yield store
    finally:
        await store.close()


async def until(watch: Watch, wanted: type[WatchEvent], events: list[WatchEvent]) -> WatchEvent:
    """The next event of a kind; all that came are added to `events`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            events.append(await anext(watch))
            if isinstance(events[-1], wanted):
                return events[-1]


async def written(store: EtcdStore, truth: Truth, name: str, value: bytes) -> None:
    """One put that is tried until the server is there again."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                truth.wrote(await store.put(ROOT + name, value), {ROOT + name: value})
            except Unavailable:
                await asyncio.sleep(0.05)
            else:
                return


async def told(watch: Watch, truth: Truth, events: list[WatchEvent]) -> None:
    """Follow until the watch knows what was written, then hold it to its promises."""
    known: dict[str, bytes] = {}
    for event in events:
        apply(known, event)
    async with asyncio.timeout(PATIENCE):
        while known != truth.state:
            events.append(await anext(watch))
            apply(known, events[-1])
    ordered(events)
    unique(events)
    reliable(events, truth)
    honest(events)


async def test_a_watch_whose_history_is_compacted_while_it_is_away_starts_over(server: Server) -> None:
    truth = Truth()
    async with opened(server) as store:
        first = await store.put(ROOT + "a", b"1")
        for n in range(5):
            await written(store, truth, "a", b"%d" % n)
        await store.compact(await store.index(""))
        with pytest.raises(NotFound):
            await store.compact(first)
        events = list[WatchEvent]()
        async with aclosing(store.watch(ROOT, after=first)) as watch:
            await until(watch, Resync, events)
            await written(store, truth, "b", b"1")
            await told(watch, truth, events)


async def test_compaction_under_a_live_watch_disturbs_nothing(server: Server) -> None:
    truth, events = Truth(), list[WatchEvent]()
    async with opened(server) as store, aclosing(store.watch(ROOT)) as watch:
        await until(watch, Resync, events)
        for n in range(10):
            await written(store, truth, f"k{n}", b"1")
            await store.compact(await store.index(""))
        await told(watch, truth, events)
    assert not any(isinstance(event, Resync | Lost) for event in events[1:])


async def test_a_lease_that_nobody_renews_takes_its_keys_along(server: Server) -> None:
    events = list[WatchEvent]()
    async with opened(server) as store, aclosing(store.watch(ROOT)) as watch:
        await until(watch, Resync, events)
        lease = await store.grant(2.0, name="host a")
        await store.put(ROOT + "a", b"1", lease=lease)
        await until(watch, Batch, events)
        gone = await until(watch, Batch, events)
        with pytest.raises(NotFound):
            await store.renew(lease)
        assert await store.leases() == ()
    assert isinstance(gone, Batch)
    assert gone.deletes == (ROOT + "a",)


async def test_a_lease_that_releases_leaves_its_keys_when_it_expires(server: Server) -> None:
    events = list[WatchEvent]()
    async with opened(server) as store, aclosing(store.watch(ROOT)) as watch:
        await until(watch, Resync, events)
        lease = await store.grant(2.0, name="lock", behavior="release")
        assert await store.acquire(ROOT + "a", b"1", lease, flags=7)
        held = await until(watch, Batch, events)
        released = await until(watch, Batch, events)
        entry = await store.get(ROOT + "a")
    assert isinstance(held, Batch)
    assert isinstance(released, Batch)
    assert [e.lease for e in held.puts] == [lease]
    assert released.puts == (entry,)
    assert entry is not None
    assert (entry.value, entry.flags, entry.lease, entry.lock_index) == (b"1", 7, None, 1)
    assert entry.version > held.index


async def test_with_several_members_the_loss_of_one_is_survived_by_reads_writes_and_watches() -> None:
    truth, events = Truth(), list[WatchEvent]()
    with running_cluster(older()) as members:
        async with opened(*members) as store, aclosing(store.watch(ROOT)) as watch:
            await until(watch, Resync, events)
            await written(store, truth, "a", b"1")
            await until(watch, Batch, events)
            await asyncio.to_thread(members[0].stop)
            await written(store, truth, "b", b"2")
            await told(watch, truth, events)
            lease = await store.grant(10)
            await store.renew(lease)
    assert not any(isinstance(event, Resync) for event in events[1:])
