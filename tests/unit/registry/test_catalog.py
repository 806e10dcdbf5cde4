import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from registry import keys, values
from registry.backends.sqlite import SqliteStore
from registry.catalog import DELETE_AFTER, TRIES, KvCatalog
from registry.errors import Conflict, Corrupt, NotFound, Unavailable
from registry.store import Batch
from tests.fakes.clock import Clock
from tests.fakes.running import running
from tests.fakes.store import MemoryStore
from tests.unit.registry import made

KEY = made.instance().key


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalog(store: MemoryStore, clock: Clock) -> KvCatalog:
    return KvCatalog(store, clock=clock.time)


@pytest_asyncio.fixture
async def durable(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "registry.db")
    yield store
    await store.close()


async def test_what_is_registered_is_found(catalog: KvCatalog, store: MemoryStore) -> None:
    index = await catalog.register(made.instance())
    await catalog.register(made.instance(node="b", id="web-2"))
    await catalog.register(made.instance(service="api", id="api-1"))
    assert store.entries[made.key(KEY)].version == index
    assert await catalog.get(KEY) == made.instance()
    assert [found.id for found in await catalog.instances("web")] == ["web-1", "web-2"]
    services = await catalog.services()
    assert {name: [found.id for found in instances] for name, instances in services.items()} == {
        "api": ["api-1"],
        "web": ["web-1", "web-2"],
    }
    assert await catalog.get(made.instance(id="none").key) is None


async def test_a_service_whose_name_begins_alike_is_another(catalog: KvCatalog) -> None:
    await catalog.register(made.instance(service="web2"))
    assert await catalog.instances("web") == ()


async def test_withdrawal_marks_first_and_deletes_later(catalog: KvCatalog, store: MemoryStore, clock: Clock) -> None:
    await catalog.register(made.instance())
    index = await catalog.withdraw(KEY)
    marked = await catalog.get(KEY)
    assert marked is not None
    assert marked.state == "withdrawn"
    assert await catalog.withdraw(KEY) == index  # twice is no write
    clock.now += DELETE_AFTER - 1
    assert await catalog.sweep() == 0
    clock.now += 1
    assert await catalog.sweep() == 1
    assert store.entries == {}
    assert await catalog.sweep() == 0


async def test_one_that_registers_again_is_not_deleted(catalog: KvCatalog, clock: Clock) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    await catalog.register(made.instance())
    clock.now += DELETE_AFTER
    assert await catalog.sweep() == 0
    assert await catalog.get(KEY) == made.instance()


async def test_one_that_another_process_registered_again_is_not_deleted(
    catalog: KvCatalog, store: MemoryStore, clock: Clock
) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    await KvCatalog(store).register(made.instance())
    clock.now += DELETE_AFTER
    assert await catalog.sweep() == 0
    assert await catalog.get(KEY) == made.instance()


async def test_one_that_is_registered_between_look_and_deletion_is_not_deleted(
    catalog: KvCatalog, store: MemoryStore, clock: Clock
) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    clock.now += DELETE_AFTER

    class Raced(MemoryStore):
        async def delete(self, key: str, *, expect: int | None = None) -> int:
            await self.put(key, values.write(made.instance()))
            return await super().delete(key, expect=expect)

    raced = Raced()
    raced.entries, raced.index_now = store.entries, store.index_now
    late = KvCatalog(raced, clock=clock.time, delete_after=0.0)
    await late.withdraw(KEY)
    assert await late.sweep() == 0
    assert await catalog.get(KEY) == made.instance()


async def test_removing_leaves_no_mark_and_what_is_absent_is_no_error(catalog: KvCatalog, store: MemoryStore) -> None:
    await catalog.register(made.instance())
    for _ in range(2):
        await catalog.remove(made.instance().key)
    assert store.entries == {}


async def test_a_key_that_is_gone_already_is_no_error(catalog: KvCatalog, store: MemoryStore, clock: Clock) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    store.entries.clear()
    clock.now += DELETE_AFTER
    assert await catalog.sweep() == 0


async def test_an_update_changes_what_is_registered(catalog: KvCatalog) -> None:
    await catalog.register(made.instance())
    await catalog.update(made.instance(health="critical"))
    assert await catalog.get(KEY) == made.instance(health="critical")


async def test_a_late_check_result_brings_no_withdrawn_instance_back(catalog: KvCatalog) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    await catalog.update(made.instance(health="passing", tags=("late",)))
    assert await catalog.get(KEY) == made.instance(state="withdrawn", tags=("late",))


async def test_what_is_not_registered_cannot_be_updated_or_withdrawn(catalog: KvCatalog) -> None:
    for call in (catalog.update(made.instance()), catalog.withdraw(KEY)):
        with pytest.raises(NotFound, match="web/a/web-1"):
            await call


@pytest.mark.parametrize("verb", ["update", "withdraw"])
async def test_a_lost_comparison_is_tried_again_and_given_up_in_the_end(
    catalog: KvCatalog, store: MemoryStore, verb: str
) -> None:
    class Contested(MemoryStore):
        losses = 1

        async def put(self, key: str, value: bytes, *, expect: int | None = None, **_: object) -> int:
            if expect and self.losses:
                self.losses -= 1
                await super().put(key, values.write(made.instance(tags=(f"other-{self.losses}",))))
            return await super().put(key, value, expect=expect)

    contested = Contested()
    known = KvCatalog(contested)
    await known.register(made.instance())

    async def call() -> int:
        return await (known.update(made.instance(health="warning")) if verb == "update" else known.withdraw(KEY))

    await call()
    found = await known.get(KEY)
    assert found is not None
    assert (found.health, found.state) == (("warning", "active") if verb == "update" else ("passing", "withdrawn"))
    await known.register(made.instance())
    contested.losses = TRIES
    with pytest.raises(Conflict, match="web/a/web-1"):
        await call()


async def test_an_unreadable_instance_is_left_out_named_when_asked_for_and_can_be_withdrawn(
    catalog: KvCatalog, store: MemoryStore, clock: Clock
) -> None:
    await catalog.register(made.instance(id="web-2"))
    await store.put(made.key(KEY), b"junk")
    await store.put(keys.node("a"), b"junk")
    await store.put(keys.node("b"), values.write(made.node("b")))
    assert [found.id for found in await catalog.instances("web")] == ["web-2"]
    assert await catalog.nodes() == (made.node("b"),)
    with pytest.raises(Corrupt, match="web-1"):
        await catalog.get(KEY)
    await catalog.withdraw(KEY)
    assert made.key(KEY) not in store.entries
    clock.now += DELETE_AFTER
    assert await catalog.sweep() == 0


async def test_bytes_of_a_newer_version_are_not_deleted(catalog: KvCatalog, store: MemoryStore, clock: Clock) -> None:
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    await store.put(made.key(KEY), b'{"From": "the future"}')
    clock.now += DELETE_AFTER
    assert await catalog.sweep() == 0
    assert made.key(KEY) in store.entries


async def test_running_deletes_what_this_and_an_earlier_run_withdrew(durable: SqliteStore) -> None:
    earlier = KvCatalog(durable)
    for known in (made.instance(), made.instance(node="b", id="web-2"), made.instance(id="web-3")):
        await earlier.register(known)
    await earlier.withdraw(KEY)
    await earlier.withdraw(made.instance(node="b", id="web-2").key)
    later = KvCatalog(durable, delete_after=0.01)
    gone: set[str] = set()
    async with asyncio.timeout(10), aclosing(durable.watch(keys.SERVICES)) as watch, running(later.run()):
        await anext(watch)
        later.finish(KEY)
        async for event in watch:
            gone.update(event.deletes if isinstance(event, Batch) else ())
            if len(gone) == 1 and made.key(KEY) in gone:
                await later.withdraw(made.instance(id="web-3").key)
            if len(gone) == 2:
                break
    assert gone == {made.key(KEY), made.key(made.instance(id="web-3"))}
    assert [found.id for found in await later.instances("web")] == ["web-2"]  # another host's: its own business


async def test_running_goes_on_when_the_store_is_away(durable: SqliteStore) -> None:
    class Away(KvCatalog):
        asked = 0

        async def sweep(self) -> int:
            self.asked += 1
            if self.asked == 1:
                self._news.set()  # do not wait for the retry
                raise Unavailable("away")
            return await super().sweep()

    catalog = Away(durable, delete_after=0.0)
    await catalog.register(made.instance())
    await catalog.withdraw(KEY)
    async with asyncio.timeout(10), aclosing(durable.watch(keys.SERVICES)) as watch, running(catalog.run()):
        async for event in watch:
            if isinstance(event, Batch) and event.deletes:
                break
    assert catalog.asked >= 2
