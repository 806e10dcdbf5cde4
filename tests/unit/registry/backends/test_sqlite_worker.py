import asyncio
import sqlite3
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from registry.backends import sqlite_tables, sqlite_worker
from registry.backends.sqlite_tables import Changes
from registry.backends.sqlite_worker import Worker
from registry.errors import Conflict, Unavailable
from registry.store import Op


class Published:
    """Records what the worker hands to the watchers, commit by commit."""

    def __init__(self) -> None:
        self.commits: list[list[int]] = []

    def __call__(self, changes: list[Changes]) -> None:
        self.commits.append([change.index for change in changes])


@pytest.fixture
def published() -> Published:
    return Published()


@pytest_asyncio.fixture
async def worker(tmp_path: Path, published: Published) -> AsyncIterator[Worker]:
    worker = Worker(tmp_path / "registry.db", published, tombstones=4)
    worker.start()
    yield worker
    await worker.close()


async def put(worker: Worker, key: str, value: bytes = b"1", *, expect: int | None = None) -> int:
    ops = [Op(key=key, value=value, expect=expect)]
    return await worker.write(lambda db, index: sqlite_tables.transact(db, index, ops))


async def delete(worker: Worker, key: str) -> int:
    return await worker.write(lambda db, index: sqlite_tables.transact(db, index, [Op(key=key, value=None)]))


class Gate:
    """A read that holds the thread until the test lets it go on, so that calls queue up behind it."""

    def __init__(self) -> None:
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, db: sqlite3.Connection) -> None:
        self.entered.set()
        assert self.opened.wait(10)


async def test_writes_that_wait_together_are_one_commit_in_their_order(worker: Worker, published: Published) -> None:
    gate = Gate()

    async def release() -> None:
        await asyncio.to_thread(gate.entered.wait, 10)
        gate.opened.set()

    _, *indexes, _ = await asyncio.gather(worker.read(gate), *(put(worker, f"k{n}") for n in range(5)), release())
    assert indexes == [2, 3, 4, 5, 6]
    assert published.commits == [[2, 3, 4, 5, 6]]


async def test_a_refused_write_takes_nobody_with_it(worker: Worker, published: Published) -> None:
    gate = Gate()

    async def release() -> None:
        await asyncio.to_thread(gate.entered.wait, 10)
        gate.opened.set()

    results = await asyncio.gather(
        worker.read(gate),
        put(worker, "a"),
        put(worker, "b", expect=9),
        put(worker, "c"),
        release(),
        return_exceptions=True,
    )
    assert (results[1], results[3]) == (2, 3)
    assert isinstance(results[2], Conflict)
    assert published.commits == [[2, 3]]


async def test_watchers_are_told_before_the_writer(worker: Worker, published: Published) -> None:
    index = await put(worker, "a")
    assert published.commits == [[index]]


async def test_a_disk_that_refuses_fails_the_group_and_later_ones_work_again(
    worker: Worker, published: Published
) -> None:
    def full(db: sqlite3.Connection) -> None:
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}")

    def room(db: sqlite3.Connection) -> None:
        db.execute("PRAGMA max_page_count = 1000000")

    await put(worker, "before")
    await worker.read(full)
    with pytest.raises(Unavailable, match=r"registry\.db.*the disk is full: free space"):
        await put(worker, "big", b"x" * 100_000)
    assert await worker.read(lambda db: sqlite_tables.get(db, "big")) is None
    await worker.read(room)
    assert await put(worker, "big", b"x" * 100_000) == 3
    assert published.commits == [[2], [3]]


async def test_a_read_that_fails_is_explained(worker: Worker) -> None:
    with pytest.raises(Unavailable, match=r"registry\.db.*no such table"):
        await worker.read(lambda db: db.execute("SELECT * FROM nowhere"))


async def test_a_mistake_in_one_call_reaches_its_caller_and_ends_nothing(worker: Worker) -> None:
    def mistaken(db: sqlite3.Connection, *_: int) -> tuple[None, None]:
        db.execute("DELETE FROM entries")
        raise ZeroDivisionError("a mistake")

    await put(worker, "kept")
    with pytest.raises(ZeroDivisionError):
        await worker.write(mistaken)
    with pytest.raises(UnicodeEncodeError):
        await worker.read(lambda db: sqlite_tables.get(db, "\ud800"))
    assert await worker.read(lambda db: sqlite_tables.get(db, "kept")) is not None


async def test_a_caller_that_gave_up_disturbs_nobody(worker: Worker) -> None:
    gate = Gate()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await put(worker, "a")
        gate.opened.set()

    await asyncio.gather(worker.read(gate), give_up())
    assert await put(worker, "b") == 3  # the write that nobody waited for was made


async def test_old_deletions_are_forgotten_now_and_then(worker: Worker) -> None:
    for n in range(10):
        await put(worker, f"k{n}")
        await delete(worker, f"k{n}")
    await asyncio.gather(*(put(worker, "a", b"%d" % n) for n in range(sqlite_worker.PRUNE_EVERY)))
    kept = await worker.read(lambda db: db.execute("SELECT count(*) FROM tombstones").fetchone()[0])
    assert kept == 4


async def test_closing_finishes_what_is_queued_and_refuses_what_comes_later(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "other.db", Published(), tombstones=4)
    worker.start()
    index, _ = await asyncio.gather(put(worker, "a"), worker.close())
    assert index == 2
    with pytest.raises(Unavailable, match=r"other\.db: the store is closed"):
        await put(worker, "b")
    await worker.close()


def test_answers_of_a_loop_that_is_gone_are_dropped(tmp_path: Path) -> None:
    worker = Worker(tmp_path / "other.db", Published(), tombstones=4)
    worker.start()
    gate = Gate()

    async def leave() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await worker.read(gate)

    asyncio.run(leave())
    gate.opened.set()
    asyncio.run(worker.close())
    reopened = Worker(tmp_path / "other.db", Published(), tombstones=4)
    assert reopened.start().index == 1
    asyncio.run(reopened.close())
