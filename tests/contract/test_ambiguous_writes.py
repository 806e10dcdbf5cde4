"""The server has applied a write and its answer is lost: the caller is told so, and repeating it doubles nothing."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from registry.backends.etcd import EtcdStore
from registry.errors import Conflict, RegistryError, Unavailable
from registry.store import Op, Store
from tests.contract.backends import Bench, needs
from tests.contract.relay import Fault, Relay
from tests.contract.validators import PATIENCE, Truth, collect, ordered, reliable, unique

Write = Callable[[Store], Awaitable[int]]


@asynccontextmanager
async def answers_lost(bench: Bench, fault: Fault) -> AsyncIterator[tuple[Store, Relay]]:
    """A store that writes by way of a relay, and loses the answers of its first write from now on."""
    async with Relay(*bench.at).serve() as relay:
        store = bench.connect(relay.port)
        try:
            await store.get(bench.root + "warm")  # connected, and logged in
            if isinstance(store, EtcdStore):  # a write reads first; that answer still comes
                commit = store._commit

                async def deaf(step: Any) -> int | None:
                    relay.fault = fault
                    return await commit(step)

                store._commit = deaf  # type: ignore[method-assign]  # from here on the transaction's answer is lost
            else:
                relay.fault = fault
            yield store, relay
        finally:
            relay.fault = ""
            await store.close()


async def until_answered(write: Callable[[], Awaitable[int]]) -> int:
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return await write()
            except Unavailable:
                await asyncio.sleep(0.05)  # sleep: as a caller that tries again


async def a_put_is_done_once(bench: Bench, fault: Fault) -> None:
    key, truth = bench.root + "a", Truth()
    first = await bench.store.put(key, b"1")
    truth.wrote(first, {key: b"1"})
    async with answers_lost(bench, fault) as (store, relay):
        with pytest.raises(Unavailable, match="may have been applied"):
            await store.put(key, b"2")
        relay.fault = ""
        applied = await bench.store.get(key)
        assert applied is not None
        assert (applied.value, applied.version > first) == (b"2", True)
        truth.wrote(applied.version, {key: b"2"})
        if isinstance(store, EtcdStore):
            del store._commit
        assert await until_answered(lambda: store.put(key, b"2")) == applied.version
        with pytest.raises(Conflict):
            await store.put(key, b"3", expect=first)
    assert await bench.store.get(key) == applied
    last = bench.root + "last"
    truth.wrote(await bench.store.put(last, b"1"), {last: b"1"})
    events = await collect(bench.store, bench.root, after=first, last=last)
    ordered(events)
    unique(events)
    reliable(events, truth, start={key: b"1"})


@needs("network")
async def test_a_put_whose_answer_is_lost_is_done_once_whatever_the_caller_repeats(bench: Bench) -> None:
    await a_put_is_done_once(bench, "cut")


@needs("network")
@pytest.mark.outages
@pytest.mark.timeout(60)
async def test_a_put_whose_answer_never_comes_is_done_once_whatever_the_caller_repeats(bench: Bench) -> None:
    await a_put_is_done_once(bench, "silent")


WRITES: dict[str, Callable[[str, int], Write]] = {
    "create": lambda root, _: lambda store: store.put(root + "new", b"2", expect=0),
    "compare and set": lambda root, known: lambda store: store.put(root + "a", b"2", expect=known),
    "delete": lambda root, known: lambda store: store.delete(root + "a", expect=known),
    "transaction": lambda root, known: (
        lambda store: store.transact(
            [Op(key=root + "a", value=b"2", expect=known), Op(key=root + "new", value=b"2", expect=0)]
        )
    ),
}


@needs("network")
@pytest.mark.parametrize("name", WRITES)
async def test_a_guarded_write_whose_answer_is_lost_is_not_done_again(bench: Bench, name: str) -> None:
    known = await bench.store.put(bench.root + "a", b"1")
    write = WRITES[name](bench.root, known)
    async with answers_lost(bench, "cut") as (store, relay):
        with pytest.raises(Unavailable):
            await write(store)
        relay.fault = ""
        once = await bench.store.list(bench.root)
        assert [(e.key, e.value) for e in once.entries] != [(bench.root + "a", b"1")], "it was applied"
        if isinstance(store, EtcdStore):
            del store._commit
        with pytest.raises(Conflict):
            await until_answered(lambda: write(store))
    assert (await bench.store.list(bench.root)).entries == once.entries


@needs("network", "leases")
async def test_a_lease_whose_grant_is_not_answered_ends_by_itself_and_holds_nothing(bench: Bench) -> None:
    async with Relay(*bench.at).serve() as relay:
        store = bench.connect(relay.port)
        await store.get(bench.root + "warm")
        relay.fault = "cut"
        with pytest.raises(RegistryError):
            await store.grant(bench.ttl)
        relay.fault = ""
        lease = ""

        async def grant() -> int:
            nonlocal lease
            lease = await store.grant(bench.ttl)
            return 0

        await until_answered(grant)
        await until_answered(lambda: store.put(bench.root + "a", b"1", lease=lease))
        await store.close()
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.lease == lease
