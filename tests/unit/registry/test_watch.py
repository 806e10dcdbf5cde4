import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from registry.errors import Corrupt, Denied, Unavailable
from registry.store import Alive, Batch, Lost, Resync, WatchEvent
from registry.watch import Watcher
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


class Followers:
    """Starts followers as meshd.tasks does."""

    def __init__(self) -> None:
        self.tasks: dict[str, asyncio.Future[None]] = {}

    def __call__(self, name: str, run: Callable[[], Awaitable[None]]) -> asyncio.Future[None]:
        self.tasks[name] = asyncio.ensure_future(run())  # type: ignore[arg-type]  # noqa: TID251 - a coroutine; ended below
        return self.tasks[name]

    async def end(self) -> None:
        for task in self.tasks.values():
            task.cancel()
        if self.tasks:
            await asyncio.wait(self.tasks.values())


@pytest.fixture
async def followers() -> AsyncIterator[Followers]:
    made = Followers()
    yield made
    await made.end()


async def taken(watcher: Watcher, count: int) -> list[tuple[str, WatchEvent]]:
    async with asyncio.timeout(10):
        return [await watcher.events.get() for _ in range(count)]


async def test_events_of_all_selectors_come_through_one_queue(followers: Followers) -> None:
    store = MemoryStore()
    store.scripts = [[Resync(1, ()), Batch(2, (), ("a/x",))], [Resync(3, ())]]
    watcher = Watcher(store, followers, pause=Pauses(1))
    watcher.want(frozenset({"a/", "b"}))
    events = await taken(watcher, 5)
    ended = Lost("the watch ended")
    assert [event for selector, event in events if selector == "a/"] == [Resync(1, ()), Batch(2, (), ("a/x",)), ended]
    assert [event for selector, event in events if selector == "b"] == [Resync(3, ()), ended]


@pytest.mark.parametrize("error", [Denied("no right"), Corrupt("bad bytes"), Unavailable("closed")])
async def test_a_refusal_is_said_once_and_the_watch_resumes_behind_what_was_seen(
    error: Exception, followers: Followers
) -> None:
    store = MemoryStore()
    store.scripts = [[Resync(1, ()), Alive(5), error], [error], [error], [Batch(6, (), ("a/x",))]]
    watcher = Watcher(store, followers, pause=Pauses(4))
    watcher.want(frozenset({"a/"}))
    events = await taken(watcher, 4)
    assert [event for _, event in events] == [
        Resync(1, ()),
        Alive(5),
        Lost(f"{type(error).__name__}: {error}"),
        Batch(6, (), ("a/x",)),
    ]
    assert store.watched == [("a/", None), ("a/", 5), ("a/", 5), ("a/", 5)]


async def test_pauses_grow_with_full_jitter_and_start_anew_after_contact(followers: Followers) -> None:
    store = MemoryStore()
    store.scripts = [[Unavailable("x")]] * 9 + [[Resync(1, ()), Unavailable("x")]]
    pauses = Pauses(10)
    watcher = Watcher(store, followers, pause=pauses, jitter=lambda: 0.5)
    watcher.want(frozenset({"a/"}))
    assert len(await taken(watcher, 3)) == 3  # Lost, Resync, Lost
    assert pauses.made == pytest.approx([0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0, 0.05])


async def test_an_error_that_is_not_the_registrys_ends_the_follower(followers: Followers) -> None:
    store = MemoryStore()
    store.scripts = [[ZeroDivisionError("a mistake")]]
    Watcher(store, followers, pause=Pauses(1)).want(frozenset({"a/"}))
    with pytest.raises(ZeroDivisionError):
        await followers.tasks["watch a/"]


async def test_single_watches_begin_and_end_while_others_run(followers: Followers) -> None:
    store = MemoryStore()
    watcher = Watcher(store, followers, pause=Pauses(1))
    watcher.want(frozenset({"a/", "b/"}))
    kept = followers.tasks["watch a/"]
    await taken(watcher, 2)
    watcher.want(frozenset({"a/", "c"}))
    assert watcher.wanted == {"a/", "c"}
    assert [selector for selector, _ in await taken(watcher, 1)] == ["c"]
    with pytest.raises(asyncio.CancelledError):
        await followers.tasks["watch b/"]
    assert followers.tasks["watch a/"] is kept
    assert not kept.done()
    assert [selector for selector, _ in store.watched] == ["a/", "b/", "c"]
