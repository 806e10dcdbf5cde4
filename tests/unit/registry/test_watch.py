import asyncio

import pytest

from registry.errors import Corrupt, Denied, Unavailable
from registry.store import Alive, Batch, Lost, Resync, WatchEvent
from registry.watch import Watcher
from tests.fakes.running import running
from tests.fakes.store import MemoryStore


class Pauses:
    """Records how long the watcher would wait, and lets it go on until a number of pauses was made."""

    def __init__(self, limit: int) -> None:
        self.made: list[float] = []
        self._limit = limit

    async def __call__(self, seconds: float) -> None:
        self.made.append(seconds)
        if len(self.made) >= self._limit:
            await asyncio.get_running_loop().create_future()  # for ever


async def taken(watcher: Watcher, count: int) -> list[tuple[str, WatchEvent]]:
    async with asyncio.timeout(10):
        return [await watcher.events.get() for _ in range(count)]


async def test_events_of_all_prefixes_come_through_one_queue() -> None:
    store = MemoryStore()
    store.scripts = [[Resync(1, ()), Batch(2, (), ("a/x",))], [Resync(3, ())]]
    watcher = Watcher(store, ["a/", "b/"], pause=Pauses(1))
    async with running(watcher.run()):
        events = await taken(watcher, 5)
    ended = Lost("the watch ended")
    assert [event for prefix, event in events if prefix == "a/"] == [Resync(1, ()), Batch(2, (), ("a/x",)), ended]
    assert [event for prefix, event in events if prefix == "b/"] == [Resync(3, ()), ended]


@pytest.mark.parametrize("error", [Denied("no right"), Corrupt("bad bytes"), Unavailable("closed")])
async def test_a_refusal_is_said_once_and_the_watch_resumes_behind_what_was_seen(error: Exception) -> None:
    store = MemoryStore()
    store.scripts = [[Resync(1, ()), Alive(5), error], [error], [error], [Batch(6, (), ("a/x",))]]
    watcher = Watcher(store, ["a/"], pause=Pauses(4))
    async with running(watcher.run()):
        events = await taken(watcher, 4)
    assert [event for _, event in events] == [
        Resync(1, ()),
        Alive(5),
        Lost(f"{type(error).__name__}: {error}"),
        Batch(6, (), ("a/x",)),
    ]
    assert store.watched == [("a/", None), ("a/", 5), ("a/", 5), ("a/", 5)]


async def test_pauses_grow_with_full_jitter_and_start_anew_after_contact() -> None:
    store = MemoryStore()
    store.scripts = [[Unavailable("x")]] * 9 + [[Resync(1, ()), Unavailable("x")]]
    pauses = Pauses(10)
    watcher = Watcher(store, ["a/"], pause=pauses, jitter=lambda: 0.5)
    async with running(watcher.run()):
        assert len(await taken(watcher, 3)) == 3  # Lost, Resync, Lost
    assert pauses.made == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.05])


async def test_an_error_that_is_not_the_registrys_ends_all_of_it() -> None:
    store = MemoryStore()
    store.scripts = [[Resync(1, ())], [ZeroDivisionError("a mistake")]]
    watcher = Watcher(store, ["a/", "b/"], pause=Pauses(1))
    with pytest.raises(ZeroDivisionError):
        await watcher.run()
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_ending_the_watcher_ends_its_watches() -> None:
    watcher = Watcher(MemoryStore(), ["a/", "b/"], pause=Pauses(1))
    async with running(watcher.run()):
        await taken(watcher, 2)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
