"""One watch without a stream: merging, losing contact, starting over."""

import asyncio

import pytest

from registry.backends.etcd_links import Backoff
from registry.backends.etcd_watch import EtcdWatch, Source
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied, Unavailable
from registry.store import Alive, Batch, Entry, Listing, Lost, Resync


class Feed:
    """Remembers what it is asked."""

    def __init__(self) -> None:
        self.fed: list[int] = []
        self.dropped = 0
        self.newest = 0

    def add(self, watch: EtcdWatch) -> None:
        self.fed.append(watch.next)

    def drop(self, watch: EtcdWatch) -> None:
        self.dropped += 1

    def saw(self, entry: Entry) -> None:
        self.newest = max(self.newest, entry.version)


class Bench:
    """A watch over a listing that a test sets."""

    def __init__(self, after: int | None = None, lag: int = 100) -> None:
        self.feed = Feed()
        self.answers: list[Listing | Exception] = [Listing((entry("a", 3),), 5)]
        self.settled: list[str] = []
        self.pauses: list[float] = []
        backoff = Backoff(self._pause, lambda: 1.0)
        source = Source((b"a", b"b"), self._listing, self._settle, backoff, lag)
        self.watch = EtcdWatch(self.feed, source, after)

    async def _pause(self, seconds: float) -> None:
        self.pauses.append(seconds)

    async def _listing(self) -> Listing:
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer

    async def _settle(self, key: str) -> None:
        self.settled.append(key)


def entry(key: str, version: int, value: bytes = b"v") -> Entry:
    return Entry(key=key, value=value, version=version, created=1)


def put(key: str, revision: int, value: bytes = b"v") -> pb.Event:
    kv = pb.KeyValue(key=key.encode(), value=value, mod_revision=revision, create_revision=1)
    return pb.Event(kv=kv)


def gone(key: bytes, revision: int) -> pb.Event:
    return pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=key, mod_revision=revision))


async def test_it_lists_and_is_fed_from_the_next_revision_on() -> None:
    bench = Bench()
    assert await anext(bench.watch) == Resync(5, (entry("a", 3),))
    assert bench.feed.fed == [6]
    assert bench.feed.newest == 3


async def test_with_an_index_it_is_fed_at_once() -> None:
    bench = Bench(after=7)
    bench.watch.alive()
    assert await anext(bench.watch) == Alive(7)
    assert bench.feed.fed == [8]


async def test_changes_that_were_not_taken_are_merged() -> None:
    bench = Bench(after=5)
    bench.watch.lost("never connected")  # before the first event
    bench.watch.alive()
    assert await anext(bench.watch) == Alive(5)
    bench.watch.take_in([put("a", 6, b"1"), put("b", 6)])
    bench.watch.take_in([put("a", 7, b"2"), gone(b"b", 7)])
    assert await anext(bench.watch) == Batch(7, (entry("a", 7, b"2"),), ("b",))


async def test_what_was_delivered_is_not_delivered_again() -> None:
    bench = Bench(after=5)
    bench.watch.alive()
    assert await anext(bench.watch) == Alive(5)
    bench.watch.take_in([put("a", 6)])
    assert isinstance(await anext(bench.watch), Batch)
    bench.watch.take_in([put("a", 6), put("b", 7)])
    assert await anext(bench.watch) == Batch(7, (entry("b", 7),))


async def test_contact_is_lost_once_and_any_sign_of_life_ends_that() -> None:
    bench = Bench(after=5)
    bench.watch.lost("gone")
    bench.watch.lost("still gone")
    assert await anext(bench.watch) == Lost("gone")
    bench.watch.lost("gone for long")
    bench.watch.alive()
    assert await anext(bench.watch) == Alive(5)
    bench.watch.lost("again")
    assert await anext(bench.watch) == Lost("again")


async def test_a_reader_that_is_too_slow_starts_over() -> None:
    bench = Bench(after=1, lag=2)
    bench.watch.alive()
    await anext(bench.watch)
    bench.watch.take_in([put(f"k{n}", 2) for n in range(3)])
    assert await anext(bench.watch) == Resync(5, (entry("a", 3),))
    assert bench.feed.dropped == 1


async def test_a_restart_forgets_what_was_not_taken() -> None:
    bench = Bench(after=1)
    bench.watch.alive()
    await anext(bench.watch)
    bench.watch.take_in([put("x", 2)])
    bench.watch.restart()
    assert isinstance(await anext(bench.watch), Resync)
    assert bench.feed.fed == [2, 6]


async def test_while_nobody_answers_the_listing_it_says_so_once_and_pauses_longer_each_time() -> None:
    bench = Bench()
    bench.answers = [*[Unavailable("down")] * 3, Listing((), 9)]
    assert await anext(bench.watch) == Lost("down")
    assert await anext(bench.watch) == Resync(9, ())
    assert bench.pauses == [0.1, 0.2, 0.4]


async def test_rights_that_are_missing_are_raised() -> None:
    bench = Bench()
    bench.answers = [Denied("not yours")]
    with pytest.raises(Denied, match="not yours"):
        await anext(bench.watch)


async def test_a_refused_watch_lists_and_one_refused_again_says_that_contact_is_lost() -> None:
    bench = Bench(after=1)
    bench.watch.alive()
    await anext(bench.watch)
    bench.watch.refused("permission denied")
    assert isinstance(await anext(bench.watch), Resync)
    bench.watch.refused("permission denied")
    assert await anext(bench.watch) == Lost("permission denied")
    assert isinstance(await anext(bench.watch), Resync)


async def test_a_holder_that_has_ended_is_written_down() -> None:
    bench = Bench(after=1)
    bench.watch.take_in([gone(b"a\0\0", 2)])
    bench.watch.alive()
    assert isinstance(await anext(bench.watch), Alive)
    assert bench.settled == ["a"]


async def test_its_end_wakes_who_waits() -> None:
    bench = Bench(after=1)

    async def end() -> None:
        await bench.watch.aclose()

    waiting = asyncio.gather(anext(bench.watch), end(), return_exceptions=True)
    found, _ = await waiting
    assert isinstance(found, StopAsyncIteration)
    with pytest.raises(StopAsyncIteration):
        await anext(bench.watch)
