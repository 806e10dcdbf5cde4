import asyncio

import pytest

from registry.backends.change_log import ChangeLog, Pace, PrefixWatch
from registry.backends.sqlite_tables import Changes
from registry.errors import Corrupt, Unavailable
from registry.store import Alive, Batch, Entry, Listing, Lost, Resync, WatchEvent
from tests.unit.registry import made

PATIENT = Pace(lag=10, alive=60.0)


def changed(index: int, *puts: str, deletes: tuple[str, ...] = ()) -> Changes:
    return Changes(index, tuple(made.entry(key, b"%d" % index, index) for key in puts), deletes)


class Listings:
    """Answers of the database; an error among them is raised. `meanwhile` runs before the answer."""

    def __init__(self, *answers: Listing | Exception) -> None:
        self.answers = list(answers)
        self.meanwhile: list[Changes] = []
        self.log: ChangeLog | None = None

    async def __call__(self) -> Listing:
        if self.log is not None:
            self.log.publish(self.meanwhile)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


@pytest.fixture
def log() -> ChangeLog:
    log = ChangeLog(0, size=3)
    log.begin(10)
    return log


def watching(
    log: ChangeLog, *, after: int | None = 10, pace: Pace = PATIENT, listings: Listings | None = None
) -> PrefixWatch:
    return PrefixWatch(log, "p/", after, listings or Listings(), pace)


async def next_of(watch: PrefixWatch) -> WatchEvent:
    async with asyncio.timeout(10):
        return await anext(watch)


async def test_changes_that_were_not_taken_are_merged_into_their_last_state(log: ChangeLog) -> None:
    log.publish([changed(11, "p/a", "p/b"), changed(12, deletes=("p/a",)), changed(13, "p/b")])
    event = await next_of(watching(log))
    assert event == Batch(13, (made.entry("p/b", b"13", 13),), ("p/a",))


async def test_what_came_back_is_no_deletion(log: ChangeLog) -> None:
    log.publish([changed(11, deletes=("p/a",)), changed(12, "p/a")])
    assert await next_of(watching(log)) == Batch(12, (made.entry("p/a", b"12", 12),), ())


async def test_the_index_of_a_batch_is_the_last_that_it_tells_of(log: ChangeLog) -> None:
    log.publish([changed(11, "p/a"), changed(12, "elsewhere")])
    event = await next_of(watching(log))
    assert event.index == 11 if not isinstance(event, Lost) else False


@pytest.mark.parametrize("after", [9, 99, None])
async def test_an_index_outside_the_log_starts_over(log: ChangeLog, after: int | None) -> None:
    watch = watching(log, after=after, listings=Listings(Listing((), 10)))
    assert await next_of(watch) == Resync(10, ())


async def test_the_log_forgets_the_oldest(log: ChangeLog) -> None:
    log.publish([changed(index, "p/a") for index in range(11, 15)])
    assert log.since("p/", 10) is None
    kept = log.since("p/", 11)
    assert kept is not None
    assert [change.index for change in kept] == [12, 13, 14]
    assert log.since("p/", 14) == []


async def test_changes_during_a_listing_are_told_once(log: ChangeLog) -> None:
    known: tuple[Entry, ...] = (made.entry("p/a", b"11", 11),)
    listings = Listings(Listing(known, 12))
    listings.log = log
    listings.meanwhile = [
        changed(11, "p/a"),
        changed(12, deletes=("p/old",)),
        changed(13, "p/b"),
        changed(14, deletes=("p/a",)),
    ]
    watch = watching(log, after=None, listings=listings)
    assert await next_of(watch) == Resync(12, known)
    assert await next_of(watch) == Batch(14, (made.entry("p/b", b"13", 13),), ("p/a",))


async def test_a_reader_that_lags_too_far_starts_over(log: ChangeLog) -> None:
    listings = Listings(Listing((), 10), Listing((), 21))
    watch = watching(log, after=None, pace=Pace(lag=2, alive=60.0), listings=listings)
    await next_of(watch)
    log.publish([changed(11, "p/a", "p/b"), changed(12, "p/c"), changed(13, "p/d")])
    assert await next_of(watch) == Resync(21, ())
    log.publish([changed(22, "p/e")])
    assert await next_of(watch) == Batch(22, (made.entry("p/e", b"22", 22),), ())


async def test_silence_is_told_with_the_index_of_the_store(log: ChangeLog) -> None:
    watch = watching(log, pace=Pace(lag=10, alive=0.001))
    assert await next_of(watch) == Alive(10)
    log.publish([changed(11, "elsewhere")])
    assert await next_of(watch) == Alive(11)


async def test_a_disk_that_refuses_is_told_once_and_tried_again(log: ChangeLog) -> None:
    listings = Listings(Unavailable("r.db: no"), Unavailable("r.db: no"), Listing((), 10), Unavailable("r.db: again"))
    watch = watching(log, after=None, pace=Pace(lag=0, alive=0.001), listings=listings)
    assert await next_of(watch) == Lost("r.db: no")
    assert await next_of(watch) == Resync(10, ())
    log.publish([changed(11, "p/a")])
    assert await next_of(watch) == Lost("r.db: again")


async def test_damage_is_raised_and_the_watch_can_go_on(log: ChangeLog) -> None:
    watch = watching(log, after=None, listings=Listings(Corrupt("r.db: damaged"), Listing((), 10)))
    with pytest.raises(Corrupt):
        await next_of(watch)
    assert await next_of(watch) == Resync(10, ())


async def test_closing_a_watch_frees_it_and_ends_its_reader(log: ChangeLog) -> None:
    watch = watching(log)

    async def read() -> list[WatchEvent]:
        return [event async for event in watch]

    async def close() -> None:
        assert log.held == 1
        await watch.aclose()

    seen, _ = await asyncio.gather(read(), close())
    assert (seen, log.held) == ([], 0)
    await watch.aclose()


async def test_a_watch_that_was_never_read_holds_nothing(log: ChangeLog) -> None:
    watch = watching(log)
    assert log.held == 0
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)


async def test_a_reader_that_is_cancelled_can_go_on(log: ChangeLog) -> None:
    watch = watching(log)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await anext(watch)
    log.publish([changed(11, "p/a")])
    assert (await next_of(watch)) == Batch(11, (made.entry("p/a", b"11", 11),), ())


async def test_two_watches_of_a_prefix_are_freed_one_by_one(log: ChangeLog) -> None:
    log.publish([changed(11, "p/a")])
    one, two = watching(log), watching(log)
    await next_of(one)
    await next_of(two)
    await one.aclose()
    log.publish([changed(12, "p/a")])
    assert isinstance(await next_of(two), Batch)
    assert log.held == 1


async def answer(index: int) -> int:
    return index


async def test_a_wait_ends_with_a_change_of_its_own_prefix_or_key(log: ChangeLog) -> None:
    async def change() -> None:
        log.publish([changed(11, "elsewhere", "p"), changed(12, "p/ab"), changed(13, deletes=("p/a",))])

    of_prefix = log.next_touch("p/", False, lambda: answer(10), 10)
    of_key = log.next_touch("p/a", True, lambda: answer(10), 10)
    found = await asyncio.gather(of_prefix, of_key, change())
    assert (found[0], found[1]) == (12, 13)
    assert log.held == 0


async def test_a_wait_that_is_late_already_ends_at_once(log: ChangeLog) -> None:
    assert await log.next_touch("p/", False, lambda: answer(12), 10) == 12
    assert log.held == 0


async def test_a_change_while_the_index_is_looked_up_is_not_missed(log: ChangeLog) -> None:
    async def slow() -> int:
        log.publish([changed(11, "p/a")])
        return 10

    async with asyncio.timeout(10):
        assert await log.next_touch("p/", False, slow, 10) == 11


async def test_closing_ends_watches_and_fails_waits(log: ChangeLog) -> None:
    watch = watching(log)

    async def read() -> list[WatchEvent]:
        return [event async for event in watch]

    async def close() -> None:
        log.close("r.db: the store is closed")

    waits = [log.next_touch("p/", False, lambda: answer(10), 10) for _ in range(2)]
    seen, *failed, _ = await asyncio.gather(read(), *waits, close(), return_exceptions=True)
    assert seen == []
    assert [type(error) for error in failed] == [Unavailable, Unavailable]
    assert log.held == 0
