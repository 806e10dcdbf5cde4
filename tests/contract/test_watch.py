"""Watches: ordered, unique, reliable or resynchronised, resumable, honest."""

import asyncio
from contextlib import aclosing

import pytest

from registry.blocking import wait_change
from registry.store import Alive, Batch, Entry, Indexed, Op, Resync, WatchEvent
from tests.contract.backends import Bench, needs
from tests.contract.validators import PATIENCE, Truth, collect, news, ordered, reliable, unique

FAR = 1_000_000_000


async def test_the_first_event_is_everything(bench: Bench) -> None:
    await bench.store.put(bench.root + "a", b"1")
    await bench.store.put(bench.root + "b", b"2")
    async with aclosing(bench.store.watch(bench.root)) as watch:
        event = await news(watch)
    assert isinstance(event, Resync)
    assert [(entry.key, entry.value) for entry in event.entries] == [(bench.root + "a", b"1"), (bench.root + "b", b"2")]


async def test_puts_and_deletes_arrive_with_their_versions(bench: Bench) -> None:
    async with aclosing(bench.store.watch(bench.root)) as watch:
        await news(watch)
        version = await bench.store.put(bench.root + "a", b"1", flags=3)
        put = await news(watch)
        await bench.store.delete(bench.root + "a")
        delete = await news(watch)
    assert isinstance(put, Batch)
    assert [(e.key, e.value, e.version, e.flags) for e in put.puts] == [(bench.root + "a", b"1", version, 3)]
    assert isinstance(delete, Batch)
    assert (delete.puts, delete.deletes) == ((), (bench.root + "a",))
    assert delete.index > put.index >= version


async def test_a_transaction_arrives_whole(bench: Bench) -> None:
    async with aclosing(bench.store.watch(bench.root)) as watch:
        await news(watch)
        await bench.store.transact([Op(key=bench.root + name, value=b"1") for name in "abc"])
        event = await news(watch)
    assert isinstance(event, Batch)
    assert {entry.key for entry in event.puts} == {bench.root + name for name in "abc"}


async def test_what_happens_beside_the_prefix_is_not_seen(bench: Bench) -> None:
    async with aclosing(bench.store.watch(bench.root + "in/")) as watch:
        await news(watch)
        for name in ("out/a", "in.a", "infoo"):
            await bench.store.put(bench.root + name, b"1")
        await bench.store.put(bench.root + "in/a", b"1")
        event = await news(watch)
    assert isinstance(event, Batch)
    assert [entry.key for entry in event.puts] == [bench.root + "in/a"]


async def test_a_watch_of_one_key_sees_that_key_alone(bench: Bench) -> None:
    key = bench.root + "web"
    beside = ("web2", "web/a", "we", "web-")
    for name in beside:
        await bench.store.put(bench.root + name, b"0")
    async with aclosing(bench.store.watch(key)) as watch:
        first = await news(watch)
        assert isinstance(first, Resync)
        assert first.entries == ()
        for name in beside:
            await bench.store.put(bench.root + name, b"1")
        await bench.store.put(key, b"1")
        put = await news(watch)
        await bench.store.delete(bench.root + "web2")
        await bench.store.delete(key)
        gone = await news(watch)
    assert isinstance(put, Batch)
    assert [(entry.key, entry.value) for entry in put.puts] == [(key, b"1")]
    assert put.deletes == ()
    assert isinstance(gone, Batch)
    assert (gone.puts, gone.deletes) == ((), (key,))


async def test_a_watch_of_one_key_lists_it_and_resumes(bench: Bench) -> None:
    key = bench.root + "store-id"
    await bench.store.put(key, b"1")
    await bench.store.put(key + "2", b"1")
    async with aclosing(bench.store.watch(key)) as watch:
        seen = await news(watch)
    assert isinstance(seen, Resync)
    assert [entry.key for entry in seen.entries] == [key]
    await bench.store.put(key + "2", b"2")
    await bench.store.put(key, b"2")
    events = await collect(bench.store, key, after=seen.index, last=key)
    ordered(events)
    unique(events)
    assert {entry.key for event in events if isinstance(event, Batch | Resync) for entry in entries(event)} == {key}


async def test_many_keys_are_watched_side_by_side(bench: Bench) -> None:
    names = [f"{bench.root}k{n}" for n in range(40)]
    await asyncio.gather(*(bench.store.put(name, b"0") for name in names[::2]))
    watches = [bench.store.watch(name) for name in names]
    try:
        first = await asyncio.gather(*map(news, watches))
        assert [len(entries(event)) for event in first] == [1, 0] * 20
        await bench.store.transact([Op(key=name, value=b"1") for name in names])
        second = await asyncio.gather(*map(news, watches))
    finally:
        for watch in watches:
            await watch.aclose()
    assert [[entry.key for entry in entries(event)] for event in second] == [[name] for name in names]


def entries(event: WatchEvent) -> tuple[Entry, ...]:
    assert isinstance(event, Batch | Resync)
    return event.puts if isinstance(event, Batch) else event.entries


async def test_a_watch_resumes_behind_the_index_that_it_is_given(bench: Bench) -> None:
    await bench.store.put(bench.root + "a", b"1")
    async with aclosing(bench.store.watch(bench.root)) as watch:
        seen = await news(watch)
    assert isinstance(seen, Resync)
    put = await bench.store.put(bench.root + "b", b"2")
    deleted = await bench.store.delete(bench.root + "a")
    last = await bench.store.put(bench.root + "last", b"3")
    truth = Truth({bench.root + "a": b"1"})
    truth.wrote(put, {bench.root + "b": b"2"})
    truth.wrote(deleted, {bench.root + "a": None})
    truth.wrote(last, {bench.root + "last": b"3"})
    events = await collect(bench.store, bench.root, after=seen.index, last=bench.root + "last")
    ordered(events)
    unique(events)
    reliable(events, truth, start={bench.root + "a": b"1"})


@needs("forget")
async def test_an_index_that_the_store_has_forgotten_starts_over(bench: Bench) -> None:
    first = await bench.store.put(bench.root + "a", b"1")
    await bench.store.delete(bench.root + "a")
    await bench.forget()
    async with aclosing(bench.store.watch(bench.root, after=first)) as watch:
        event = await news(watch)
    assert isinstance(event, Resync)
    assert event.entries == ()


async def test_an_index_from_the_future_starts_over_as_the_store_was_wiped(bench: Bench) -> None:
    await bench.store.put(bench.root + "a", b"1")
    async with aclosing(bench.store.watch(bench.root, after=FAR)) as watch:
        event = await news(watch)
    assert isinstance(event, Resync)
    assert event.index < FAR
    assert [entry.key for entry in event.entries] == [bench.root + "a"]


@needs("restart")
async def test_a_watch_resumes_over_a_restart(bench: Bench) -> None:
    first = await bench.store.put(bench.root + "a", b"1")
    second = await bench.store.put(bench.root + "b", b"2")
    truth = Truth()
    truth.wrote(first, {bench.root + "a": b"1"})
    truth.wrote(second, {bench.root + "b": b"2"})
    await bench.restart()
    truth.wrote(await bench.store.delete(bench.root + "a"), {bench.root + "a": None})
    truth.wrote(await bench.store.put(bench.root + "last", b"3"), {bench.root + "last": b"3"})
    for after in (first, second):
        events = await collect(bench.store, bench.root, after=after, last=bench.root + "last")
        ordered(events)
        unique(events)
        reliable(events, truth, start=truth.at(after))


@needs("lag")
async def test_a_reader_that_is_too_slow_starts_over(bench: Bench) -> None:
    async with aclosing(bench.store.watch(bench.root)) as watch:
        await news(watch)
        for n in range(bench.lag + 1):
            await bench.store.put(f"{bench.root}k{n}", b"1")
        event = await news(watch)
        assert isinstance(event, Resync)
        assert len(event.entries) == bench.lag + 1
        await bench.store.put(bench.root + "last", b"1")
        after = await news(watch)
    assert isinstance(after, Batch)
    assert [entry.key for entry in after.puts] == [bench.root + "last"]


async def test_silence_is_said(bench: Bench) -> None:
    async with asyncio.timeout(PATIENCE), aclosing(bench.store.watch(bench.root)) as watch:
        first = await anext(watch)
        assert isinstance(first, Resync)
        second = await anext(watch)
    assert isinstance(second, Alive)
    assert second.index >= first.index


async def test_many_watches_see_the_same(bench: Bench) -> None:
    last = bench.root + "last"
    truth = Truth()

    async def write() -> None:
        for n in range(10):
            key = f"{bench.root}k{n % 3}"
            truth.wrote(await bench.store.put(key, b"%d" % n), {key: b"%d" % n})
        for n in range(3):
            key = f"{bench.root}k{n}"
            truth.wrote(await bench.store.delete(key), {key: None})
        truth.wrote(await bench.store.put(last, b"1"), {last: b"1"})

    watches = [collect(bench.store, bench.root, after=None, last=last) for _ in range(5)]
    *seen, _ = await asyncio.gather(*watches, write())
    for events in seen:
        assert events is not None
        ordered(events)
        unique(events)
        reliable(events, truth)


async def test_a_closed_watch_ends_and_the_store_goes_on(bench: Bench) -> None:
    watch = bench.store.watch(bench.root)
    await news(watch)
    await watch.aclose()
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    assert await bench.store.put(bench.root + "a", b"1") > 0


async def test_waiting_ends_with_a_change_and_tells_its_index(bench: Bench) -> None:
    start = await bench.store.put(bench.root + "a", b"1")

    async def write() -> int:
        return await bench.store.put(bench.root + "b", b"2")

    found, written = await asyncio.gather(wait_change(bench.store, bench.root, start, PATIENCE), write())
    assert found == written
    assert await wait_change(bench.store, bench.root, start, PATIENCE) >= written


@needs("index")
async def test_the_index_of_a_prefix_moves_with_its_own_writes_and_deletions_alone(bench: Bench) -> None:
    store = bench.store
    assert isinstance(store, Indexed)
    put = await bench.store.put(bench.root + "in/a", b"1")
    await bench.store.put(bench.root + "out", b"1")
    assert await store.index(bench.root + "in/") == put
    deleted = await bench.store.delete(bench.root + "in/a")
    await bench.store.put(bench.root + "out", b"2")
    assert await store.index(bench.root + "in/") == deleted
    assert await store.index(bench.root + "in/a", exact=True) == deleted
    assert await store.index(bench.root + "in", exact=True) < put


@needs("index")
async def test_a_write_elsewhere_does_not_wake_who_waits(bench: Bench) -> None:
    start = await bench.store.put(bench.root + "in/a", b"1")

    async def write() -> int:
        await bench.store.put(bench.root + "out", b"1")
        await bench.store.put(bench.root + "in.b", b"1")
        return await bench.store.delete(bench.root + "in/a")

    found, deleted = await asyncio.gather(wait_change(bench.store, bench.root + "in/", start, PATIENCE), write())
    assert found == deleted


@needs("index")
async def test_waiting_for_one_key_is_not_ended_by_its_neighbours(bench: Bench) -> None:
    start = await bench.store.put(bench.root + "a", b"1")

    async def write() -> int:
        await bench.store.put(bench.root + "a/b", b"1")
        await bench.store.put(bench.root + "ab", b"1")
        return await bench.store.put(bench.root + "a", b"2")

    waiting = wait_change(bench.store, bench.root + "a", start, PATIENCE, exact=True)
    found, written = await asyncio.gather(waiting, write())
    assert found == written


@needs("index")
async def test_a_wait_whose_time_is_over_tells_the_index_as_it_is(bench: Bench) -> None:
    start = await bench.store.put(bench.root + "a", b"1")
    assert await wait_change(bench.store, bench.root, start, 0.05) == start


@needs("index")
async def test_waiting_behind_an_index_from_the_future_ends_at_once(bench: Bench) -> None:
    start = await bench.store.put(bench.root + "a", b"1")
    assert await wait_change(bench.store, bench.root, FAR, PATIENCE) == start
