"""The one thread that touches the database: reads at once, writes in groups with one commit (one fsync) each.

Calls come from one event loop as closures over the connection. All writes that wait when the thread becomes free
share a transaction, each in its own savepoint, so that a refused one takes nobody with it. After the commit, one
callback on the loop first publishes the changes and then answers the writers.
"""

import asyncio
import sqlite3
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, TypeVar

import msgspec

from registry.backends import sqlite_schema, sqlite_tables
from registry.backends.sqlite_tables import Changes
from registry.errors import Corrupt, RegistryError, Unavailable
from registry.store import Lease

T = TypeVar("T")
Read = Callable[[sqlite3.Connection], T]
Write = Callable[[sqlite3.Connection, int], tuple[T, Changes | None]]
Outcome = tuple["Job", Any, Exception | None]

MAX_GROUP = 256  # bounds how long a writer waits for others of its group
PRUNE_EVERY = 1024  # writes between two looks at the tombstones


class Opened(msgspec.Struct, frozen=True):
    """What the file held when it was opened."""

    index: int
    leases: tuple[Lease, ...]


class Job:
    """One call on its way through the thread."""

    def __init__(self, future: "asyncio.Future[Any]", read: Read[Any] | None, write: Write[Any] | None) -> None:
        self.future = future
        self.read = read
        self.write = write

    def answer(self, value: Any, error: Exception | None) -> None:
        if self.future.done():  # the caller gave up; what was written stays written
            return
        if error is not None:
            self.future.set_exception(error)
        else:
            self.future.set_result(value)


class Worker:
    """Owner of the connection. `publish` runs on the loop for every commit, before its writers are answered."""

    def __init__(self, path: Path, publish: Callable[[list[Changes]], None], *, tombstones: int) -> None:
        self.path = path
        self._publish = publish
        self._tombstones = tombstones
        self._jobs: SimpleQueue[Job | None] = SimpleQueue()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False
        self._started: SimpleQueue[RegistryError | Opened] = SimpleQueue()
        self._until_prune = PRUNE_EVERY
        self._thread = Thread(target=self._main, name=f"store {path.name}", daemon=True)

    def start(self) -> Opened:
        """Open the database; blocks. Raises Corrupt, Unavailable."""
        self._thread.start()
        started = self._started.get()
        if isinstance(started, RegistryError):
            self._closed = True
            raise started
        return started

    async def read(self, call: Read[T]) -> T:
        """Raises Corrupt, Unavailable."""
        result: T = await self._submit(call, None)
        return result

    async def write(self, call: Write[T]) -> T:
        """Returns after the commit is on disk and published. Raises what `call` raises, Corrupt, Unavailable."""
        result: T = await self._submit(None, call)
        return result

    async def close(self) -> None:
        """Finish what is queued, then close the database. Idempotent."""
        if not self._closed:
            self._closed = True
            self._jobs.put(None)
        # the rest takes one commit at most, and callers of close expect the file to be free after it
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join)

    def _submit(self, read: Read[Any] | None, write: Write[Any] | None) -> "asyncio.Future[Any]":
        if self._closed:
            raise Unavailable(f"{self.path}: the store is closed")
        if self._loop is None:
            self._loop = asyncio.get_running_loop()
        job = Job(self._loop.create_future(), read, write)
        self._jobs.put(job)
        return job.future

    # ---- on the thread ------------------------------------------------------------------------------------------

    def _main(self) -> None:
        try:
            db, opened = self._open()
        except RegistryError as error:
            self._started.put(error)
            return
        self._started.put(opened)
        try:
            while self._step(db):
                pass
        finally:
            db.close()

    def _open(self) -> tuple[sqlite3.Connection, Opened]:
        db = sqlite_schema.connect(self.path)
        try:
            return db, Opened(sqlite_tables.store_index(db), sqlite_tables.leases(db))
        except (sqlite3.Error, TypeError) as error:  # sound pages, but not our tables and rows
            db.close()
            raise Corrupt(sqlite_schema.damaged(self.path, str(error))) from error

    def _step(self, db: sqlite3.Connection) -> bool:
        """Serve the calls that wait now, at least one. False after the last one."""
        jobs = [self._jobs.get()]
        while len(jobs) < MAX_GROUP:
            try:
                jobs.append(self._jobs.get_nowait())
            except Empty:
                break
        for job in jobs:
            if job is not None and job.read is not None:
                self._read(db, job, job.read)
        writes = [job for job in jobs if job is not None and job.write is not None]
        if writes:
            self._write(db, writes)
        return None not in jobs

    def _read(self, db: sqlite3.Connection, job: Job, call: Read[Any]) -> None:
        try:
            outcome: Outcome = (job, call(db), None)
        except sqlite3.Error as error:
            outcome = (job, None, sqlite_schema.explain(self.path, error))
        except Exception as error:  # a mistake in one call must not end the thread for all
            outcome = (job, None, error)
        self._deliver([], [outcome])

    def _write(self, db: sqlite3.Connection, jobs: list[Job]) -> None:
        try:
            published, outcomes = self._commit(db, jobs)
        except sqlite3.Error as error:
            if db.in_transaction:
                db.execute("ROLLBACK")
            refusal = sqlite_schema.explain(self.path, error)
            published, outcomes = [], [(job, None, refusal) for job in jobs]
        self._deliver(published, outcomes)

    def _commit(self, db: sqlite3.Connection, jobs: list[Job]) -> tuple[list[Changes], list[Outcome]]:
        published: list[Changes] = []
        outcomes: list[Outcome] = []
        db.execute("BEGIN IMMEDIATE")
        index = sqlite_tables.store_index(db)
        for job in jobs:
            assert job.write is not None
            db.execute("SAVEPOINT one")
            try:
                value, changes = job.write(db, index + 1)
                outcomes.append((job, value, None))
            except sqlite3.Error:
                raise  # the disk's fault, not this call's: nothing of the group is kept
            except Exception as refusal:  # a mistake in one call must not end the thread for all
                db.execute("ROLLBACK TO one")
                outcomes.append((job, None, refusal))
                changes = None
            db.execute("RELEASE one")
            if changes is not None:
                published.append(changes)
                index = changes.index
        if published:
            sqlite_tables.save_index(db, index)
            self._prune(db, len(published))
        db.execute("COMMIT")
        return published, outcomes

    def _prune(self, db: sqlite3.Connection, writes: int) -> None:
        self._until_prune -= writes
        if self._until_prune <= 0:
            self._until_prune = PRUNE_EVERY
            sqlite_tables.prune(db, self._tombstones)

    def _deliver(self, published: list[Changes], outcomes: list[Outcome]) -> None:
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._arrive, published, outcomes)
        except RuntimeError:  # the loop is closed: nobody is left to hear it
            return

    def _arrive(self, published: list[Changes], outcomes: list[Outcome]) -> None:
        if published:
            self._publish(published)
        for job, value, error in outcomes:
            job.answer(value, error)
