"""The host's lease: kept, put again after loss, taken over by the next meshd."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from meshd.control.lease import Lease
from registry import keys
from registry.backends.sqlite import SqliteStore
from registry.errors import Unavailable
from registry.model import Node
from tests.fakes.store import MemoryStore
from tests.unit.meshd.control.conftest import Lines

NODE = Node(name="a", address="10.0.0.1", inbound_port=15443)


@pytest.fixture
async def durable(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(tmp_path / "db")
    yield store
    await store.close()


class Bench:
    """A lease that runs, and how often it was new."""

    def __init__(self, lease: Lease) -> None:
        self.lease = lease
        self.news = 0
        lease.on_lease = self.new
        self.task = asyncio.get_running_loop().create_task(lease.run())

    def new(self) -> None:
        self.news += 1

    async def until(self, probe: Callable[[], object]) -> None:
        async with asyncio.timeout(5):
            while not probe():
                assert not self.task.done()
                await asyncio.sleep(0.002)  # sleep: the pace of a wait with a deadline

    async def kill(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_lease_and_node_are_put_and_the_lease_is_taken_over(
    durable: SqliteStore, tmp_path: Path, log: Lines
) -> None:
    first = Bench(Lease(durable, NODE, 10.0, tmp_path / "lease", log))
    await first.until(lambda: first.news)
    entry = await durable.get(keys.lease("a"))
    assert entry is not None
    assert entry.lease == first.lease.id
    assert await durable.get(keys.node("a")) is not None
    await first.kill()
    following = Bench(Lease(durable, NODE, 10.0, tmp_path / "lease", log))
    await following.until(lambda: following.news)
    assert following.lease.id == first.lease.id
    assert len(await durable.leases()) == 1
    await following.kill()


async def test_an_expired_lease_is_replaced(durable: SqliteStore, tmp_path: Path, log: Lines) -> None:
    bench = Bench(Lease(durable, NODE, 0.03, tmp_path / "lease", log))
    await bench.until(lambda: bench.news)
    assert bench.lease.id is not None
    await durable.revoke(bench.lease.id)
    await bench.until(lambda: bench.news == 2)
    assert await durable.get(keys.lease("a")) is not None
    assert "lease expired" in log.events()
    await bench.kill()


async def test_a_lost_key_is_put_again_at_once(durable: SqliteStore, tmp_path: Path, log: Lines) -> None:
    bench = Bench(Lease(durable, NODE, 3600.0, tmp_path / "lease", log))
    await bench.until(lambda: bench.news)
    await durable.delete(keys.lease("a"))
    bench.lease.lost()
    async with asyncio.timeout(5):
        while await durable.get(keys.lease("a")) is None:  # noqa: ASYNC110 - the store is asked, nobody tells
            await asyncio.sleep(0.002)  # sleep: the pace of a wait with a deadline
    await bench.kill()


async def test_a_lease_nobody_renews_is_pushed_aside(durable: SqliteStore, tmp_path: Path, log: Lines) -> None:
    old = await durable.grant(3600.0)
    await durable.put(keys.lease("a"), b"old", lease=old)
    bench = Bench(Lease(durable, NODE, 10.0, tmp_path / "absent" / "lease", log))
    await bench.until(lambda: bench.news)
    entry = await durable.get(keys.lease("a"))
    assert entry is not None
    assert entry.lease == bench.lease.id
    await bench.kill()


async def test_while_the_registry_is_away_it_is_said_once_and_tried_again(
    store: MemoryStore, tmp_path: Path, log: Lines
) -> None:
    store.failures += [Unavailable("away"), Unavailable("away")]
    made: list[bool] = []
    lease = Lease(store, NODE, 10.0, tmp_path / "lease", log)
    lease.on_contact = lambda: made.append(True)
    bench = Bench(lease)
    await bench.until(lambda: bench.news)
    assert log.events().count("lease cannot be kept") == 1
    await bench.until(lambda: made)
    assert lease.problem == ""
    await bench.kill()


async def test_release_lets_go_at_once(durable: SqliteStore, tmp_path: Path, log: Lines) -> None:
    bench = Bench(Lease(durable, NODE, 3600.0, tmp_path / "lease", log))
    await bench.until(lambda: bench.news)
    await bench.kill()
    await bench.lease.release()
    assert await durable.get(keys.lease("a")) is None
    assert not (tmp_path / "lease").exists()


async def test_a_registry_beside_the_home_one_gets_no_node(durable: SqliteStore, tmp_path: Path, log: Lines) -> None:
    bench = Bench(Lease(durable, NODE, 10.0, tmp_path / "lease", log, home=False))
    await bench.until(lambda: bench.news)
    assert await durable.get(keys.lease("a")) is not None
    assert await durable.get(keys.node("a")) is None
    await bench.kill()
