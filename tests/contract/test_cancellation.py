"""Cancelled at every await point, a call leaves no task, no socket and no watcher at the server."""

import asyncio
import gc
import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Generator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from registry.errors import RegistryError
from registry.store import Batch, Entry, Resync, SessionStore, Watch, WatchEvent
from tests.contract.backends import Bench, needs
from tests.contract.validators import PATIENCE, news

ROOT = "mesh/v1/test/"
ENOUGH = 0.1  # seconds for calls that do not end by themselves
ROUNDS, POINTS = 100, 20  # at the first wait of a call, the second, ... the twentieth, and again
KEPT = 4  # connections that an open store keeps for later: as many as it had requests at a time

Call = Callable[[SessionStore], Coroutine[Any, Any, object]]


async def watched(store: SessionStore) -> None:
    async with aclosing(store.watch(ROOT)) as watch:
        async for _ in watch:
            await store.put(ROOT + "seen", os.urandom(4))


async def resumed(store: SessionStore) -> None:
    async with aclosing(store.watch(ROOT, after=await store.index(ROOT))) as watch:
        await anext(watch)


async def leased(store: SessionStore) -> None:
    lease = await store.grant(60, name="x", behavior="release")
    try:
        await store.acquire(ROOT + "lock", b"1", lease)
        await store.renew(lease)
        await store.release(ROOT + "lock", b"2", lease)
    finally:
        with suppress(RegistryError):
            await store.revoke(lease)


CALLS: dict[str, Call] = {
    "put": lambda store: store.put(ROOT + "a", os.urandom(4)),
    "list": lambda store: store.list(ROOT),
    "watch": watched,
    "resumed watch": resumed,
    "wait": lambda store: store.wait_index(ROOT + "nothing/", 1),
    "lease": leased,
}


def sockets(bench: Bench) -> int:
    """Connections of this process to the server. Cancelled calls of gRPC are cycles: theirs wait for the collector."""
    gc.collect()
    host, port = bench.at
    there = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}" if host else ""
    inodes = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(fd))
    net = Path("/proc/self/net")
    rows = [line.split() for name in ("tcp", "tcp6") for line in (net / name).read_text().splitlines()[1:]]
    return sum(row[2][-13:] == there and f"socket:[{row[9]}]" in inodes for row in rows)


class CancelledAt:
    """Awaits a call, and cancels the task when the call waits for the n-th time."""

    def __init__(self, number: int, call: Coroutine[Any, Any, object]) -> None:
        self.number, self.waits, self._call = number, 0, call

    def __await__(self) -> Generator[Any, Any, object]:
        steps = self._call.__await__()
        go: Callable[[Any], Any] = steps.send
        given: Any = None
        while True:
            try:
                pending = go(given)
            except StopIteration as done:
                return done.value
            self.waits += 1
            if self.waits == self.number:
                task = asyncio.current_task()
                assert task is not None
                task.cancel()
            try:
                given, go = (yield pending), steps.send
            except BaseException as error:  # what the loop throws into the task goes on into the call
                given, go = error, steps.throw


async def cancelled_at(number: int, call: Coroutine[Any, Any, object]) -> bool:
    """True when the call waited that often, and so was cancelled there."""
    steps = CancelledAt(number, call)

    async def run() -> None:
        with suppress(RegistryError, TimeoutError):
            async with asyncio.timeout(ENOUGH):
                await steps

    await asyncio.gather(run(), return_exceptions=True)
    return steps.waits >= number


@pytest.mark.parametrize("name", CALLS)
async def test_a_cancelled_call_leaves_nothing(bench: Bench, name: str) -> None:
    store = bench.store
    assert isinstance(store, SessionStore)
    before = asyncio.all_tasks()
    async with aclosing(store.watch(ROOT)) as other:
        await news(other)
        cut = Counter[int]()
        number = 1
        for _ in range(ROUNDS):
            there = await cancelled_at(number, CALLS[name](store))
            cut[number] += there
            number = number + 1 if there and number < POINTS else 1  # it does not wait that often: from the start
        assert cut[1] >= ROUNDS // POINTS
        await settled(lambda: bench.held() <= 1)
        await settled(lambda: sockets(bench) <= KEPT)
        await store.put(ROOT + "last", os.urandom(4))  # everything still works
        async with asyncio.timeout(PATIENCE):
            while not any(entry.key == ROOT + "last" for entry in told(await anext(other))):
                pass
    await settled(lambda: bench.held() == 0)
    await store.close()
    await settled(lambda: sockets(bench) == 0)
    await alone(before)


def told(event: WatchEvent) -> tuple[Entry, ...]:
    if isinstance(event, Resync):
        return event.entries
    return event.puts if isinstance(event, Batch) else ()


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it asks the server and the kernel
            await asyncio.sleep(0.02)


async def alone(before: set[asyncio.Task[Any]]) -> None:
    """Nothing runs in the loop that did not run before (gRPC's own end within a turn or two)."""
    async with asyncio.timeout(PATIENCE):
        while asyncio.all_tasks() - before:  # noqa: ASYNC110 - tasks of gRPC, without an event for their end
            await asyncio.sleep(0)


@needs("forget")
async def test_a_watch_from_an_index_that_is_forgotten_leaves_nothing(bench: Bench) -> None:
    first = await bench.store.put(ROOT + "a", b"1")
    await bench.store.put(ROOT + "a", b"2")
    await bench.forget()
    async with aclosing(bench.store.watch(ROOT)) as other:
        await news(other)
        for _ in range(5):
            async with aclosing(bench.store.watch(ROOT, after=first)) as watch:
                assert isinstance(await news(watch), Resync)
        await settled(lambda: bench.held() <= 1)


async def test_a_closed_store_leaves_nothing_even_with_open_watches(bench: Bench) -> None:
    before = asyncio.all_tasks()
    watches = [bench.store.watch(ROOT) for _ in range(10)]
    for watch in watches:
        await news(watch)
    held = bench.held
    async with asyncio.timeout(PATIENCE):
        await asyncio.gather(bench.store.close(), *map(end_of, watches))
    await settled(lambda: held() == 0)
    await settled(lambda: sockets(bench) == 0)
    await alone(before)


async def end_of(watch: Watch) -> None:
    async for _ in watch:
        pass
