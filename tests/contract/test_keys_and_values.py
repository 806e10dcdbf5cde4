"""Reads, writes, compare-and-set and transactions."""

import asyncio

import pytest

from registry.errors import Conflict, TooLarge
from registry.store import Op
from tests.contract.backends import Bench, needs


async def test_what_was_put_is_what_is_got(bench: Bench) -> None:
    key = bench.root + "a"
    version = await bench.store.put(key, b"\x00\xff one", flags=42)
    entry = await bench.store.get(key)
    assert entry is not None
    assert (entry.key, entry.value, entry.flags, entry.lease) == (key, b"\x00\xff one", 42, None)
    assert entry.version == entry.created == version


async def test_an_absent_key_is_none_and_an_empty_prefix_lists_nothing(bench: Bench) -> None:
    assert await bench.store.get(bench.root + "none") is None
    assert (await bench.store.list(bench.root)).entries == ()


async def test_an_empty_value_is_a_value(bench: Bench) -> None:
    await bench.store.put(bench.root + "a", b"")
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.value == b""


async def test_versions_grow_and_created_stays(bench: Bench) -> None:
    first = await bench.store.put(bench.root + "a", b"1")
    second = await bench.store.put(bench.root + "a", b"2")
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert second > first
    assert (entry.created, entry.version) == (first, second)


async def test_the_same_value_again_is_no_write(bench: Bench) -> None:
    first = await bench.store.put(bench.root + "a", b"1")
    assert await bench.store.put(bench.root + "a", b"1") == first
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.version == first


async def test_a_key_that_was_deleted_and_written_again_is_a_new_one(bench: Bench) -> None:
    first = await bench.store.put(bench.root + "a", b"1")
    await bench.store.delete(bench.root + "a")
    assert await bench.store.get(bench.root + "a") is None
    again = await bench.store.put(bench.root + "a", b"1")
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.created == again > first


async def test_a_listing_is_sorted_and_holds_its_prefix_alone(bench: Bench) -> None:
    for name in ("b/2", "b/10", "bfoo", "a", "c/1", "b.x"):
        await bench.store.put(bench.root + name, name.encode())
    listing = await bench.store.list(bench.root + "b/")
    assert [entry.key for entry in listing.entries] == [bench.root + "b/10", bench.root + "b/2"]
    everything = await bench.store.list(bench.root)
    names = [entry.key.removeprefix(bench.root) for entry in everything.entries]
    assert names == sorted(["b/2", "b/10", "bfoo", "a", "c/1", "b.x"])
    assert everything.index >= max(entry.version for entry in everything.entries)


async def test_create_only_refuses_an_existing_key(bench: Bench) -> None:
    key = bench.root + "a"
    await bench.store.put(key, b"1", expect=0)
    with pytest.raises(Conflict, match="a"):
        await bench.store.put(key, b"2", expect=0)
    entry = await bench.store.get(key)
    assert entry is not None
    assert entry.value == b"1"


async def test_compare_and_set_takes_the_version_that_was_read_and_no_other(bench: Bench) -> None:
    key = bench.root + "a"
    first = await bench.store.put(key, b"1")
    second = await bench.store.put(key, b"2", expect=first)
    for stale in (first, second + 1000):
        with pytest.raises(Conflict):
            await bench.store.put(key, b"3", expect=stale)
        with pytest.raises(Conflict):
            await bench.store.delete(key, expect=stale)
    await bench.store.delete(key, expect=second)
    assert await bench.store.get(key) is None


async def test_compare_and_set_of_an_absent_key_conflicts(bench: Bench) -> None:
    with pytest.raises(Conflict):
        await bench.store.put(bench.root + "a", b"1", expect=7)
    assert await bench.store.get(bench.root + "a") is None


async def test_deleting_what_is_absent_is_no_error(bench: Bench) -> None:
    assert await bench.store.delete(bench.root + "none") >= 0


async def test_one_of_many_that_race_for_a_key_wins(bench: Bench) -> None:
    async def race(n: int) -> bool:
        try:
            await bench.store.put(bench.root + "a", b"%d" % n, expect=0)
        except Conflict:
            return False
        return True

    won = await asyncio.gather(*(race(n) for n in range(10)))
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert [n for n, winner in enumerate(won) if winner] == [int(entry.value)]


async def test_a_transaction_is_one_change(bench: Bench) -> None:
    await bench.store.put(bench.root + "old", b"x")
    index = await bench.store.transact(
        [
            Op(key=bench.root + "a", value=b"1", expect=0),
            Op(key=bench.root + "b", value=b"2"),
            Op(key=bench.root + "old", value=None),
        ]
    )
    entries = (await bench.store.list(bench.root)).entries
    assert [(entry.key, entry.value, entry.version) for entry in entries] == [
        (bench.root + "a", b"1", index),
        (bench.root + "b", b"2", index),
    ]


async def test_a_transaction_with_a_lost_comparison_does_nothing(bench: Bench) -> None:
    version = await bench.store.put(bench.root + "b", b"1")
    with pytest.raises(Conflict, match=bench.root + "b"):
        await bench.store.transact(
            [Op(key=bench.root + "a", value=b"1"), Op(key=bench.root + "b", value=b"2", expect=version + 1000)]
        )
    entries = (await bench.store.list(bench.root)).entries
    assert [(entry.key, entry.value) for entry in entries] == [(bench.root + "b", b"1")]


async def test_a_value_above_the_limit_is_refused_and_one_at_it_is_kept(bench: Bench) -> None:
    limit = bench.store.max_value
    with pytest.raises(TooLarge):
        await bench.store.put(bench.root + "a", b"x" * (limit + 1))
    assert await bench.store.get(bench.root + "a") is None
    await bench.store.put(bench.root + "a", b"x" * limit)
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert len(entry.value) == limit


@needs("restart")
async def test_what_was_answered_survives_a_restart(bench: Bench) -> None:
    kept = await bench.store.put(bench.root + "kept", b"1")
    await bench.store.put(bench.root + "gone", b"1")
    deleted = await bench.store.delete(bench.root + "gone")
    await bench.restart()
    listing = await bench.store.list(bench.root)
    assert [(entry.key, entry.version) for entry in listing.entries] == [(bench.root + "kept", kept)]
    assert await bench.store.put(bench.root + "new", b"1") > deleted
