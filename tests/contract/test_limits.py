"""Much, and too much: what a store does not take is TooLarge, what it takes arrives."""

import asyncio
from contextlib import aclosing

import pytest

from registry.errors import TooLarge
from registry.store import Batch, Op, Resync
from tests.contract.backends import Bench, needs
from tests.contract.validators import PATIENCE, Truth, apply, news, ordered, reliable, unique

KEYS = 5000
STEP = 64  # operations of a transaction that every store takes


async def test_a_value_above_the_limit_is_refused_by_every_verb(bench: Bench) -> None:
    value = b"x" * (bench.store.max_value + 1)
    for expect in (None, 0):
        with pytest.raises(TooLarge):
            await bench.store.put(bench.root + "a", value, expect=expect)
    with pytest.raises(TooLarge):
        await bench.store.transact([Op(key=bench.root + "b", value=b"1"), Op(key=bench.root + "a", value=value)])
    assert (await bench.store.list(bench.root)).entries == ()


@needs("network")
async def test_a_transaction_of_too_many_operations_is_refused_and_one_at_the_limit_is_done(bench: Bench) -> None:
    ops = [Op(key=f"{bench.root}k{n}", value=b"1") for n in range(bench.max_ops + 1)]
    with pytest.raises(TooLarge):
        await bench.store.transact(ops)
    assert (await bench.store.list(bench.root)).entries == ()
    await bench.store.transact(ops[:-1])
    assert len((await bench.store.list(bench.root)).entries) == bench.max_ops


@needs("network")
async def test_a_transaction_of_too_many_bytes_is_refused(bench: Bench) -> None:
    """1.5 MiB on etcd, 512 KiB as base64 on Consul: less than three of the largest values."""
    value = b"x" * bench.store.max_value
    with pytest.raises(TooLarge):
        await bench.store.transact([Op(key=f"{bench.root}k{n}", value=value) for n in range(3)])
    assert (await bench.store.list(bench.root)).entries == ()


async def test_the_largest_values_are_watched_and_listed(bench: Bench) -> None:
    async with aclosing(bench.store.watch(bench.root)) as watch:
        await news(watch)
        for n in range(3):
            await bench.store.put(f"{bench.root}k{n}", bytes([n]) * bench.store.max_value)
            event = await news(watch)
            assert isinstance(event, Batch)
            assert [entry.value for entry in event.puts] == [bytes([n]) * bench.store.max_value]
    assert [len(entry.value) for entry in (await bench.store.list(bench.root)).entries] == [bench.store.max_value] * 3


async def test_5000_keys_of_more_than_4_mib_are_listed_and_watched(bench: Bench) -> None:
    truth, value = Truth(), b"x" * 1024
    for start in range(0, KEYS, STEP):
        names = [f"{bench.root}k{n:04}" for n in range(start, min(start + STEP, KEYS))]
        index = await bench.store.transact([Op(key=name, value=value) for name in names])
        truth.wrote(index, dict.fromkeys(names, value))
    assert len((await bench.store.list(bench.root)).entries) == KEYS
    async with aclosing(bench.store.watch(bench.root)) as watch:
        events = [await news(watch)]
        assert isinstance(events[0], Resync)
        known: dict[str, bytes] = {}
        apply(known, events[0])
        for n in (0, KEYS - 1):
            key = f"{bench.root}k{n:04}"
            truth.wrote(await bench.store.put(key, b"new"), {key: b"new"})
        gone = f"{bench.root}k{KEYS // 2}"
        truth.wrote(await bench.store.delete(gone), {gone: None})
        async with asyncio.timeout(PATIENCE):
            while known != truth.state:
                events.append(await news(watch))
                apply(known, events[-1])
    ordered(events)
    unique(events)
    reliable(events, truth)
