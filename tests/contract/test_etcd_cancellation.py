"""Cancelled at every await point, a call leaves no task, no socket and no watcher at the server."""

import asyncio
import gc
import os
from collections import Counter
from collections.abc import Callable, Coroutine, Generator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path
from typing import Any

import pytest

from registry.backends.etcd import EtcdStore
from registry.errors import RegistryError
from registry.store import Batch
from tests.contract.validators import PATIENCE, news
from tests.etcd_server import Server, newer, older, running_etcd
from tests.fakes.running import running

ROOT = "mesh/v1/test/"
ENOUGH = 0.1  # seconds for calls that do not end by themselves
ROUNDS, POINTS = 100, 20  # at the first wait of a call, the second, ... the twentieth, and again
pytestmark = [pytest.mark.outages, pytest.mark.timeout(120)]

Call = Callable[[EtcdStore], Coroutine[Any, Any, object]]


@pytest.fixture(scope="module", params=["3.4", "3.7"])
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    with running_etcd(older() if request.param == "3.4" else newer()) as started:
        yield started


async def watched(store: EtcdStore) -> None:
    async with aclosing(store.watch(ROOT)) as watch:
        async for _ in watch:
            await store.put(ROOT + "seen", os.urandom(4))


async def resumed(store: EtcdStore) -> None:
    async with aclosing(store.watch(ROOT, after=await store.index(ROOT))) as watch:
        await anext(watch)


async def leased(store: EtcdStore) -> None:
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


def sockets(server: Server) -> int:
    """Connections of this process to the server. Cancelled calls of gRPC are cycles: theirs wait for the collector."""
    gc.collect()
    inodes = set()
    for fd in Path("/proc/self/fd").iterdir():
        with suppress(OSError):
            inodes.add(os.readlink(fd))
    net = Path("/proc/self/net")
    rows = [line.split() for name in ("tcp", "tcp6") for line in (net / name).read_text().splitlines()[1:]]
    return sum(int(row[2].split(":")[1], 16) == server.port and f"socket:[{row[9]}]" in inodes for row in rows)


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
async def test_a_cancelled_call_leaves_nothing(server: Server, name: str) -> None:
    store = EtcdStore([server.address], alive=0.5)
    async with running(store.run()):
        async with aclosing(store.watch(ROOT)) as other:
            await news(other)
            assert sockets(server) == 1
            cut = Counter[int]()
            number = 1
            for _ in range(ROUNDS):
                there = await cancelled_at(number, CALLS[name](store))
                cut[number] += there
                number = number + 1 if there and number < POINTS else 1  # it does not wait that often: from the start
            assert cut[1] >= ROUNDS // POINTS
            assert store.watching == 1
            await settled(lambda: server.watchers() == 1)
            await settled(lambda: sockets(server) == 1)
            await store.put(ROOT + "last", os.urandom(4))  # everything still works
            async with asyncio.timeout(PATIENCE):
                while not any(entry.key == ROOT + "last" for entry in batch(await anext(other))):
                    pass
        await settled(lambda: server.watchers() == 0)
    await store.close()
    assert store.watching == 0
    await settled(lambda: sockets(server) == 0)
    await alone()


def batch(event: object) -> tuple[object, ...]:
    return event.puts if isinstance(event, Batch) else ()


async def settled(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(PATIENCE):
        while not await asyncio.to_thread(condition):  # noqa: ASYNC110 - it asks the server and the kernel
            await asyncio.sleep(0.02)


async def alone() -> None:
    """Nothing else runs in the loop (gRPC's own end within a turn or two)."""
    async with asyncio.timeout(PATIENCE):
        while len(asyncio.all_tasks()) > 1:  # noqa: ASYNC110 - tasks of gRPC, without an event for their end
            await asyncio.sleep(0)


async def test_a_closed_store_leaves_nothing_even_with_open_watches(server: Server) -> None:
    store = EtcdStore([server.address])
    async with running(store.run()):
        watches = [store.watch(ROOT) for _ in range(10)]
        for watch in watches:
            await news(watch)
        await settled(lambda: server.watchers() == 10)
        await store.close()
        for watch in watches:
            with pytest.raises(StopAsyncIteration):
                await anext(watch)
    await settled(lambda: server.watchers() == 0)
    await settled(lambda: sockets(server) == 0)
    await alone()
