"""What a watch forgot to tell is found by comparing, and only that."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest

from registry import keys, values
from registry.backends.sqlite import SqliteStore
from registry.errors import Unavailable
from registry.fold import Fold
from registry.reconcile import Pace, Reconcile, digests
from registry.store import Batch, Lost, Resync
from tests.fakes.forgetful import ForgetfulStore
from tests.fakes.store import MemoryStore
from tests.unit.registry import made


class Lines:
    def __init__(self) -> None:
        self.found: list[tuple[str, dict[str, object]]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.found.append((event, fields))


class Host:
    """What a host has been told, and how often it waited."""

    def __init__(self, store: MemoryStore, *selectors: str) -> None:
        self.store, self.log = store, Lines()
        self.repaired: list[tuple[str, Batch]] = []
        self.meanwhile: list[Batch] = []  # what the watch tells while the reconciliation waits
        pace = Pace(pause=self._pause, jitter=lambda: 0.5)
        self.reconcile = Reconcile(store, lambda: selectors, self._repair, self.log, pace)
        for selector in selectors:
            self.reconcile.seen(selector, Resync(1, ()))

    async def _pause(self, seconds: float) -> None:
        for event in self.meanwhile:
            self.reconcile.seen("p/", event)

    async def _repair(self, selector: str, missed: Batch) -> None:
        self.repaired.append((selector, missed))
        self.reconcile.seen(selector, missed)


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


async def test_where_all_was_told_nothing_differs(store: MemoryStore) -> None:
    host = Host(store, "p/")
    index = await store.put("p/a", b"1")
    host.reconcile.seen("p/", Batch(index, (store.entries["p/a"],)))
    assert await host.reconcile.check("p/") == 0
    assert host.repaired == []


async def test_puts_and_deletions_that_were_not_told_are_made_good_counted_and_named(store: MemoryStore) -> None:
    host = Host(store, "p/")
    old = made.entry("p/gone", b"1")
    host.reconcile.seen("p/", Batch(2, (old,)))
    index = await store.put("p/a", b"1")
    assert await host.reconcile.check("p/") == 2
    assert host.repaired == [("p/", Batch(index, (store.entries["p/a"],), ("p/gone",)))]
    assert host.reconcile.differences == 2
    assert host.log.found[0][1]["keys"] == ["p/a", "p/gone"]
    assert await host.reconcile.check("p/") == 0


async def test_a_watch_that_was_only_late_is_left_alone(store: MemoryStore) -> None:
    host = Host(store, "p/")
    index = await store.put("p/a", b"1")
    host.meanwhile = [Batch(index, (store.entries["p/a"],))]
    assert await host.reconcile.check("p/") == 0
    assert host.repaired == []


async def test_a_key_that_moves_meanwhile_is_looked_at_next_time(store: MemoryStore) -> None:
    host = Host(store, "p/")
    await store.put("p/a", b"1")
    host.meanwhile = [Batch(9, (made.entry("p/a", b"0"),))]
    assert await host.reconcile.check("p/") == 0


async def test_an_old_read_is_no_difference(store: MemoryStore) -> None:
    class Lagging(MemoryStore):
        async def glance(self, selector: str) -> Resync:  # shaped as a listing
            return Resync(1, ())

    lagging = Lagging()
    host = Host(lagging, "p/")
    index = await lagging.put("p/a", b"1")
    host.reconcile.seen("p/", Batch(index, (lagging.entries["p/a"],)))
    assert await host.reconcile.check("p/") == 0


async def test_a_selector_of_one_key_is_read_as_that_key(store: MemoryStore) -> None:
    host = Host(store, "p/web")
    await store.put("p/web2", b"1")
    assert await host.reconcile.check("p/web") == 0
    await store.put("p/web", b"1")
    assert await host.reconcile.check("p/web") == 1


async def test_what_is_without_contact_or_followed_no_more_is_not_asked_for(store: MemoryStore) -> None:
    host = Host(store, "p/", "q/")
    host.reconcile.seen("p/", Lost("away"))
    host.reconcile.seen("r/", Resync(1, ()))
    assert host.reconcile._followed() == {"q/"}
    await store.put("p/a", b"1")
    assert await host.reconcile.check("p/") == 0
    host.reconcile.seen("p/", Batch(3))
    assert host.reconcile._followed() == {"p/", "q/"}


async def test_it_runs_for_ever_and_survives_a_store_that_is_away(store: MemoryStore) -> None:
    rounds = 0

    async def pause(seconds: float) -> None:
        nonlocal rounds
        rounds += seconds == 10.0
        if rounds == 1:
            store.failures.append(Unavailable("away"))
        if rounds == 4:
            raise asyncio.CancelledError

    host = Host(store, "p/")
    host.reconcile._pace = Pace(every=10.0, pause=pause, jitter=lambda: 0.5)
    await store.put("p/a", b"1")
    with pytest.raises(asyncio.CancelledError):
        await host.reconcile.run()
    assert (host.reconcile.differences, len(host.repaired)) == (1, 1)


def test_digests_are_of_values() -> None:
    one, two = made.entry("p/a", b"1", 1), made.entry("p/a", b"1", 2)
    assert digests([one]) == digests([two]) != digests([made.entry("p/a", b"2", 1)])


# ---- a real store -------------------------------------------------------------------------------------------------


@pytest.fixture
async def sqlite(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "registry.sqlite")
    yield store
    await store.close()


async def test_an_instance_whose_event_was_dropped_by_the_watch_is_there_in_the_end(sqlite: SqliteStore) -> None:
    """End to end without a clock: a real store, a watch that drops, the fold that is fed by it."""
    forgetful, fold, log = ForgetfulStore(sqlite), Fold(), Lines()
    web, other = made.instance(), made.instance(id="web-2")
    await sqlite.put(made.key(other), values.write(other))
    forgetful.forget.add(made.key(web))

    async def repair(selector: str, missed: Batch) -> None:
        fold.apply(selector, missed, 0.0)
        reconcile.seen(selector, missed)

    async def no_pause(seconds: float) -> None:
        """The grace is the reconciliation's, not the test's."""

    reconcile = Reconcile(forgetful, lambda: (keys.SERVICES,), repair, log, Pace(pause=no_pause))  # type: ignore[arg-type]  # reads and watches are all it is asked for
    async with aclosing(forgetful.watch(keys.SERVICES)) as events:
        async for event in events:
            fold.apply(keys.SERVICES, event, 0.0)
            reconcile.seen(keys.SERVICES, event)
            if isinstance(event, Resync):
                await sqlite.put(made.key(web), values.write(web))
            elif isinstance(event, Batch):
                break
    assert set(fold.instances) == {other.key}
    assert await reconcile.check(keys.SERVICES) == 1
    assert set(fold.instances) == {web.key, other.key}
    assert await reconcile.check(keys.SERVICES) == 0
