"""What the contract suite does not see: clocks, errors, limits and restarts of the embedded store."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path

import pytest
import pytest_asyncio

from registry.backends.sqlite import MAX_TTL, RETRY_EXPIRY, SqliteStore
from registry.backends.sqlite_schema import TABLES
from registry.errors import Conflict, Corrupt, Denied, NotFound, TooLarge, Unavailable
from registry.store import Batch, Op, Resync, SessionStore
from tests.fakes.clock import Clock
from tests.fakes.running import running


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "registry.db"


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest_asyncio.fixture
async def store(path: Path, clock: Clock) -> AsyncIterator[SqliteStore]:
    store = SqliteStore.open(path, clock=clock.time)
    yield store
    await store.close()


class Quick(SqliteStore):
    tick = 0.05


class Ticking(Clock):
    """Real time with a jump that the test makes; tells when somebody has looked at it again."""

    def __init__(self) -> None:
        super().__init__()
        self.jump = 0.0
        self.looked = asyncio.Event()

    def time(self) -> float:
        self.looked.set()
        return time.monotonic() + self.jump


async def test_it_is_what_the_api_serves(store: SqliteStore) -> None:
    served: SessionStore = store
    assert await served.put("a", b"1") == 2


@pytest.mark.parametrize("key", ["", "/a", "a//b", "a/../b", "a b", "a\x00", "x" * 513])
async def test_what_is_no_key_is_refused_before_anything_is_written(store: SqliteStore, key: str) -> None:
    with pytest.raises(Denied, match="is not a key"):
        await store.transact([Op(key="good", value=b"1"), Op(key=key, value=b"1")])
    for verb in (store.acquire, store.release):
        with pytest.raises(Denied):
            await verb(key, b"", "lease")
    assert (await store.list("")).entries == ()


@pytest.mark.parametrize("ttl", [-1.0, MAX_TTL + 1, float("nan")])
async def test_a_lease_without_a_sensible_ttl_is_refused(store: SqliteStore, ttl: float) -> None:
    with pytest.raises(TooLarge, match="ttl"):
        await store.grant(ttl, name="host a")
    assert await store.leases() == ()


async def test_a_lease_of_ttl_0_never_expires(store: SqliteStore, clock: Clock) -> None:
    lease = await store.grant(0)
    clock.now += 10 * MAX_TTL
    assert await store.expire() == 0
    await store.renew(lease)
    await store.revoke(lease)
    with pytest.raises(NotFound):
        await store.renew(lease)


async def test_flags_are_unsigned_64_bit_as_in_consul(store: SqliteStore) -> None:
    for flags in (0, 2**63 - 1, 2**63, 2**64 - 1):
        await store.put("a", b"1", flags=flags)
        entry = await store.get("a")
        assert entry is not None
        assert entry.flags == flags


async def test_leases_that_end_together_end_in_one_write(store: SqliteStore, clock: Clock) -> None:
    for name in "abc":
        lease = await store.grant(10.0)
        await store.put(f"leases/{name}", b"1", lease=lease)
    async with aclosing(store.watch("leases/")) as watch:
        await anext(watch)
        clock.now += 10.0
        assert await store.expire() == 3
        assert await store.expire() == 0
        event = await anext(watch)
    assert isinstance(event, Batch)
    assert event.deletes == ("leases/a", "leases/b", "leases/c")


async def test_running_ends_leases_when_their_time_is_over(path: Path) -> None:
    store = SqliteStore.open(path)
    async with asyncio.timeout(20), running(store.run()), aclosing(store.watch("leases/")) as watch:
        await anext(watch)
        began = time.monotonic()
        long, short = await store.grant(30.0), await store.grant(0.05)
        await store.put("leases/long", b"1", lease=long)
        await store.put("leases/short", b"1", lease=short)
        async for event in watch:
            if isinstance(event, Batch) and event.deletes:
                assert event.deletes == ("leases/short",)
                break
        assert 0.05 <= time.monotonic() - began < 5.0
        await store.renew(long)
    await store.close()


async def test_a_process_that_was_frozen_ends_no_lease_for_it(path: Path) -> None:
    clock = Ticking()
    store = Quick.open(path, clock=clock.time)
    lease = await store.grant(10.0)
    await store.put("leases/a", b"1", lease=lease)
    async with asyncio.timeout(20), running(store.run()):
        for _ in range(2):
            clock.looked.clear()
            await clock.looked.wait()
        clock.jump = 40.0  # as after SIGSTOP
        for _ in range(3):
            clock.looked.clear()
            await clock.looked.wait()
        assert await store.get("leases/a") is not None
        await store.renew(lease)
    await store.close()


async def test_small_delays_are_no_excuse(store: SqliteStore, clock: Clock) -> None:
    await store.grant(10.0)
    store.forgive(0.5)
    store.forgive(-3.0)
    clock.now += 10.0
    assert await store.expire() == 1


class Broken(SqliteStore):
    """Refuses writes on demand."""

    tick = 0.05

    def breaks(self, error: Exception | None) -> None:
        write = type(self._worker).write

        async def refuse(call: object) -> object:
            if error is not None:
                raise error
            return await write(self._worker, call)  # type: ignore[arg-type]  # passed through

        self._worker.write = refuse  # type: ignore[method-assign,assignment]  # a disk that fails


async def test_leases_live_on_while_the_disk_refuses_and_end_afterwards(path: Path, clock: Clock) -> None:
    store = Broken.open(path, clock=clock.time)
    lease = await store.grant(10.0)
    await store.put("leases/a", b"1", lease=lease)
    clock.now += 10.0
    store.breaks(Unavailable("disk full"))
    with pytest.raises(Unavailable):
        await store.expire()
    assert await store.expire() == 0  # not again at once
    with pytest.raises(Unavailable):
        await store.revoke(lease)
    with pytest.raises(Unavailable):
        await store.revoke("unknown")
    await store.renew(lease)  # as it could not be ended it is still there
    with pytest.raises(Unavailable):
        await store.grant(5.0)
    store.breaks(None)
    clock.now += 10.0 + RETRY_EXPIRY
    assert await store.expire() == 1
    assert await store.get("leases/a") is None
    await store.close()


async def test_running_survives_a_full_disk_and_ends_with_damage(path: Path) -> None:
    store = Broken.open(path)
    store.breaks(None)
    await store.grant(0.01)
    store.breaks(Unavailable("disk full"))
    tries = Ticking()
    store._clock = tries.time
    async with asyncio.timeout(20), running(store.run()):
        for _ in range(4):
            tries.looked.clear()
            await tries.looked.wait()
    store.breaks(Corrupt("damaged"))
    tries.jump = RETRY_EXPIRY
    with pytest.raises(Corrupt):
        async with asyncio.timeout(20):
            await store.run()
    await store.close()


async def test_leases_and_indexes_are_there_after_a_restart(path: Path, clock: Clock) -> None:
    first = SqliteStore.open(path, clock=clock.time)
    lease = await first.grant(10.0, name="host a", behavior="release")
    index = await first.put("a", b"1", lease=lease)
    before = await first.leases()
    await first.close()
    clock.now += 1000.0
    second = SqliteStore.open(path, clock=clock.time)
    assert await second.leases() == before
    assert await second.expire() == 0
    await second.renew(lease)
    assert await second.put("b", b"1") == index + 1
    await second.close()


async def test_a_restarted_store_starts_over_for_indexes_that_it_no_longer_knows(path: Path) -> None:
    first = SqliteStore.open(path)
    old = await first.put("a", b"1")
    newest = await first.put("a", b"2")
    await first.close()
    second = SqliteStore.open(path)
    async with asyncio.timeout(10), aclosing(second.watch("", after=old)) as behind:
        assert isinstance(await anext(behind), Resync)
    async with asyncio.timeout(10), aclosing(second.watch("", after=newest)) as level:
        await second.put("b", b"1")
        assert isinstance(await anext(level), Batch)
    await second.close()


async def test_a_closed_store_says_so_and_frees_the_file(path: Path) -> None:
    store = SqliteStore.open(path)
    watch = store.watch("")
    await anext(watch)
    assert store.watching == 1

    async def wait() -> int:
        return await store.wait_index("a/", await store.index("a/"))

    waiting, _ = await asyncio.gather(wait(), store.close(), return_exceptions=True)
    assert isinstance(waiting, Unavailable)
    assert store.watching == 0
    with pytest.raises(StopAsyncIteration):
        await anext(watch)
    with pytest.raises(Unavailable, match=r"registry\.db: the store is closed"):
        await store.get("a")
    await store.close()
    await SqliteStore.open(path).close()


def test_a_damaged_file_is_refused_when_opening(path: Path) -> None:
    path.write_bytes(b"nonsense" * 1000)
    with pytest.raises(Corrupt, match=r"registry\.db"):
        SqliteStore.open(path)


@pytest.mark.parametrize("content", ["PRAGMA user_version = 1", f"{TABLES} DELETE FROM meta; PRAGMA user_version = 1"])
def test_a_sound_file_without_our_tables_and_rows_is_damaged(path: Path, content: str) -> None:
    db = sqlite3.connect(path)
    db.executescript(content)
    db.close()
    with pytest.raises(Corrupt, match=r"registry\.db: damaged"):
        SqliteStore.open(path)


async def test_a_file_in_use_is_refused_when_opening(store: SqliteStore, path: Path) -> None:
    with pytest.raises(Unavailable, match="stop the other one"):
        SqliteStore.open(path)


async def test_many_writers_at_once_each_get_an_index_of_their_own(store: SqliteStore) -> None:
    indexes = await asyncio.gather(*(store.put(f"k{n}", b"1") for n in range(300)))
    assert sorted(indexes) == list(range(2, 302))
    counted = await asyncio.gather(*(store.put("one", b"%d" % n, expect=0) for n in range(20)), return_exceptions=True)
    assert sum(isinstance(found, Conflict) for found in counted) == 19


async def test_a_cancelled_grant_leaves_no_lease_without_an_end(store: SqliteStore, clock: Clock) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await store.grant(10.0)
    await store.put("next", b"1")  # behind the write that nobody waits for
    assert len(await store.leases()) == 1
    clock.now += 10.0
    assert await store.expire() == 1
    assert await store.leases() == ()


async def test_ready_reads_do_not_wait_for_a_turn_of_the_watch(store: SqliteStore) -> None:
    """The yardstick: from put to the watch's event there is one commit and no polling."""
    took: list[float] = []
    async with asyncio.timeout(20), aclosing(store.watch("a/")) as watch:
        await anext(watch)
        for n in range(50):
            began = time.perf_counter()
            await store.put("a/k", b"%d" % n)
            answered = time.perf_counter()
            await anext(watch)
            took.append(time.perf_counter() - answered)
            assert answered > began
    assert sorted(took)[25] < 0.005
