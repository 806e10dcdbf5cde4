"""Two stores as one: what is merged and what is the home store's, with one of them away."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from registry import keys
from registry.backends.sqlite import SqliteStore
from registry.backends.union import Member, UnionStore
from registry.errors import Denied, Unavailable
from registry.store import Alive, Behavior, Behind, Lease, Listing, Lost, Op, Resync, WatchEvent
from tests.fakes.store import MemoryStore
from tests.unit.registry import made

WEB = made.instance()
KEY = made.key(WEB)
OTHER = made.instance(node="b", id="web-2")


class Away(MemoryStore):
    """Plays its scripts and fails while `away`; locks and indexes as far as a union needs them."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.asked = 0

    def _fail(self) -> None:
        self.asked += 1
        if self.away:
            raise Unavailable("away")
        super()._fail()

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        self._fail()
        return self.index_now

    async def leases(self) -> tuple[Lease, ...]:
        return ()

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str:
        return f"{name} {behavior}"


class Pair:
    """`home` and `etcd`; `contacts` is told when one answers again."""

    def __init__(self) -> None:
        self.home, self.etcd = Away(), Away()
        self.contacts: list[str] = []
        self.heard: list[tuple[str, str, WatchEvent]] = []
        self.pauses = 0
        members = [
            Member(name, store, lambda name=name: self.contacts.append(name), self.pause)  # type: ignore[arg-type, misc] - a store without locks
            for name, store in (("home", self.home), ("etcd", self.etcd))
        ]
        self.store = UnionStore(members, heard=lambda *told: self.heard.append(told))

    async def pause(self, seconds: float) -> None:
        self.pauses += 1
        await asyncio.sleep(0)

    async def events(self, count: int, selector: str = keys.SERVICES) -> list[WatchEvent]:
        found: list[WatchEvent] = []
        async with asyncio.timeout(10), aclosing(self.store.watch(selector)) as watch:  # type: ignore[type-var] - a watch closes
            async for event in watch:
                found.append(event)
                if len(found) == count:
                    break
        return found


@pytest.fixture
def pair() -> Pair:
    return Pair()


async def test_instances_are_merged_and_the_rest_is_the_home_stores(pair: Pair) -> None:
    pair.etcd.entries[KEY] = made.stored(WEB)
    pair.etcd.entries[keys.CONFIG + "mesh"] = made.entry(keys.CONFIG + "mesh", b"not ours")
    found = await pair.store.get(KEY)
    assert found is not None
    assert await pair.store.get(keys.CONFIG + "mesh") is None
    assert (await pair.store.list(keys.CONFIG)).entries == ()
    assert [entry.key for entry in (await pair.store.list(keys.SERVICES)).entries] == [KEY]


async def test_writes_and_leases_are_the_home_stores(pair: Pair) -> None:
    store = pair.store
    await store.put(KEY, b"1")
    await store.transact([Op(key=KEY + "2", value=b"1")])
    await store.delete(KEY)
    assert await store.grant(10.0, name="x") == "x delete"
    await store.renew("x")
    await store.revoke("x")
    assert await store.leases() == ()
    assert (list(pair.home.entries), list(pair.etcd.entries)) == ([KEY + "2"], [])
    assert store.behind() == Behind(-1.0, True)
    await store.close()
    assert pair.home.entries == {}


async def test_one_away_does_not_hide_what_the_other_has(pair: Pair) -> None:
    pair.etcd.entries[KEY] = made.stored(WEB)
    pair.home.away = True
    assert await pair.store.get(KEY) is not None
    with pytest.raises(Unavailable):
        await pair.store.get(made.key(OTHER))
    with pytest.raises(Unavailable):
        await pair.store.list(keys.SERVICES)


async def test_one_that_a_watch_has_lost_counts_with_what_it_last_said_and_is_not_asked(pair: Pair) -> None:
    pair.home.scripts = [[Resync(1, (made.stored(OTHER),)), *[Alive(1)] * 50]]
    pair.etcd.scripts = [[Resync(1, (made.stored(WEB),)), Lost("refused"), *[Lost("refused")] * 50]]
    pair.home.entries[made.key(OTHER)] = made.stored(OTHER)
    async with aclosing(pair.store.watch(keys.SERVICES)) as watch:  # type: ignore[type-var] - a watch closes
        async for event in watch:
            if isinstance(event, Alive) and event.lacking:
                break
        asked = pair.etcd.asked
        assert await pair.store.get(KEY) == made.stored(WEB)
        listed = (await pair.store.list(keys.SERVICES)).entries
        assert [entry.key for entry in listed] == [KEY, made.key(OTHER)]
        assert pair.store.last_known("etcd") == {str(WEB.key)}
        assert pair.etcd.asked == asked
        pair.home.away = True
        with pytest.raises(Unavailable):
            await pair.store.list(keys.SERVICES)
    assert pair.store.last_known("etcd") == frozenset()


@pytest.mark.parametrize(("reason", "asked"), [("refused", False), ("Denied: no right", True)])
async def test_one_that_any_watch_has_lost_is_not_asked_unless_it_is_for_want_of_rights(
    pair: Pair, reason: str, asked: bool
) -> None:
    pair.home.scripts = [[Resync(1, ())]]
    pair.etcd.scripts = [[Lost(reason)]]
    pair.etcd.entries[KEY] = made.stored(WEB)
    async with aclosing(pair.store.watch(keys.LEASES)) as watch:  # type: ignore[type-var] - a watch closes
        assert (await anext(watch)) == Resync(1, (), f"etcd: {reason}")
        if asked:
            assert await pair.store.get(KEY) == made.stored(WEB)
        else:
            with pytest.raises(Unavailable, match="etcd: refused"):
                await pair.store.get(KEY)


async def test_what_one_refuses_is_lost_and_tried_again_while_the_other_goes_on(pair: Pair) -> None:
    pair.home.scripts = [[Resync(1, ()), *[Alive(1)] * 3]]
    pair.etcd.scripts = [[Denied("no right")], [Denied("no right")], [Resync(7, (made.stored(WEB),))]]
    first, *others = await pair.events(6)
    assert first == Resync(1, (), "etcd: Denied: no right")
    (listing,) = [event for event in others if isinstance(event, Resync)]
    assert (listing.lacking, len(listing.entries)) == ("", 1)
    assert (pair.contacts, pair.pauses) == (["etcd"], 2)
    assert next(event for name, _, event in pair.heard if name == "etcd") == Lost("Denied: no right")


async def test_the_index_moves_with_every_registry(pair: Pair) -> None:
    pair.etcd.index_now = 40
    before = await pair.store.index(keys.SERVICES)
    assert before == pair.home.index_now
    pair.etcd.index_now += 2
    assert await pair.store.index(keys.SERVICES) == before + 2
    assert await pair.store.wait_index(keys.SERVICES, before) == before + 2
    pair.etcd.away = True
    assert await pair.store.index(keys.SERVICES) == before + 2
    pair.home.away = True
    with pytest.raises(Unavailable):
        await pair.store.index(keys.SERVICES)


@pytest.mark.parametrize("written", ["home", "etcd"])
async def test_waiting_ends_with_a_change_in_either(tmp_path: Path, written: str) -> None:
    stores = {name: SqliteStore.open(tmp_path / name) for name in ("home", "etcd")}
    union = UnionStore([Member(name, store) for name, store in stores.items()])
    start = await union.index(keys.SERVICES)

    async def write() -> None:
        await stores[written].put(KEY, b"1")

    found, _ = await asyncio.gather(union.wait_index(keys.SERVICES, start), write())
    assert found > start
    await union.close()


@pytest.fixture
async def locks(tmp_path: Path) -> AsyncIterator[UnionStore]:
    union = UnionStore([Member(name, SqliteStore.open(tmp_path / name)) for name in ("home", "etcd")])
    yield union
    await union.close()


async def test_other_prefixes_wake_by_the_home_store_alone(locks: UnionStore) -> None:
    start = await locks.index(keys.NODES)

    async def write() -> None:
        await locks.put(keys.node("a"), b"1")

    found, _ = await asyncio.gather(locks.wait_index(keys.NODES, start), write())
    assert found > start
    assert isinstance(await locks.list(keys.NODES), Listing)
