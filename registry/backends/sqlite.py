"""The embedded store: SQLite in this process, durable, with leases and watches.

sqlite_schema  the file: tables, opening, errors
sqlite_tables  the statements of each read and write
sqlite_worker  the one thread that runs them, with group commit
change_log     recent changes in memory, and who waits for them

A write is answered after its commit is on disk and after every watch has been handed its changes. Lease deadlines are
kept in memory: after a restart each lease has its full time again, because nobody could renew it meanwhile; the same
goes for a process that was frozen.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Self

from registry import keys
from registry.backends import sqlite_tables
from registry.backends.change_log import ChangeLog, Pace, PrefixWatch
from registry.backends.sqlite_worker import Worker
from registry.errors import Denied, NotFound, RegistryError, TooLarge, Unavailable
from registry.store import Behavior, Entry, Lease, Listing, Op

MAX_VALUE = 512 * 1024  # bytes, as in Consul
MAX_TTL = 86_400.0  # seconds, as in Consul
TICK = 1.0  # seconds between two looks at the clock: notices that this process was frozen
RETRY_EXPIRY = 1.0  # seconds until keys of an expired lease are deleted again, when the disk refused


class SqliteStore:
    """A `registry.store.SessionStore`. All calls come from one event loop; `run()` ends leases and must be running."""

    max_value = MAX_VALUE
    max_watches: int | None = None
    tick = TICK

    def __init__(self, worker: Worker, log: ChangeLog, clock: Callable[[], float], pace: Pace) -> None:
        self._worker = worker
        self._log = log
        self._clock = clock
        self._pace = pace
        self._ttls: dict[str, float] = {}
        self._deadlines: dict[str, float] = {}  # of leases with a ttl
        self._sooner = asyncio.Event()  # a deadline is nearer than the one that `run` waits for

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        alive: float = 5.0,
        log_size: int = 4096,
        lag: int = 4096,
        tombstones: int = 16_384,
    ) -> Self:
        """Open or make the database; blocks, so call it before serving. Raises Corrupt, Unavailable.

        `alive`: seconds of silence after which a watch says Alive. `log_size`: changes kept for `watch(after=)`.
        `lag`: keys that may wait for a slow watch before it starts over. `tombstones`: deletions remembered.
        """
        log = ChangeLog(0, size=log_size)
        worker = Worker(path, log.publish, tombstones=tombstones)
        opened = worker.start()
        log.begin(opened.index)
        store = cls(worker, log, clock, Pace(lag, alive))
        for lease in opened.leases:
            store._start_clock(lease.id, lease.ttl)
        return store

    # ---- reads --------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        return await self._worker.read(lambda db: sqlite_tables.get(db, key))

    async def list(self, prefix: str) -> Listing:
        return await self._worker.read(lambda db: sqlite_tables.listing(db, prefix))

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        return await self._worker.read(lambda db: sqlite_tables.prefix_index(db, prefix, exact))

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        return await self._log.next_touch(prefix, exact, lambda: self.index(prefix, exact=exact), after)

    async def leases(self) -> tuple[Lease, ...]:
        return await self._worker.read(sqlite_tables.leases)

    # ---- writes -------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        return await self.transact([Op(key=key, value=value, expect=expect, lease=lease, flags=flags)])

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        return await self.transact([Op(key=key, value=None, expect=expect)])

    async def transact(self, ops: Sequence[Op]) -> int:
        steps = tuple(ops)
        for op in steps:
            _check(op)
        return await self._worker.write(lambda db, index: sqlite_tables.transact(db, index, steps))

    async def acquire(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        op = Op(key=key, value=value, lease=lease, flags=flags)
        _check(op)
        return await self._worker.write(lambda db, index: sqlite_tables.acquire(db, index, op))

    async def release(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        op = Op(key=key, value=value, lease=lease, flags=flags)
        _check(op)
        return await self._worker.write(lambda db, index: sqlite_tables.release(db, index, op))

    # ---- leases -------------------------------------------------------------------------------------------------

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str:
        """`ttl` seconds up to a day; 0: it only ends by `revoke`."""
        if not 0 <= ttl <= MAX_TTL:
            raise TooLarge(f"lease {name}: ttl {ttl} s is not between 0 and {MAX_TTL:.0f}")
        lease = Lease(id=str(uuid.uuid4()), name=name, ttl=ttl, behavior=behavior, created=0)
        self._start_clock(lease.id, ttl)  # first: a caller that is cancelled meanwhile leaves no lease without end
        try:
            await self._worker.write(lambda db, index: sqlite_tables.grant(db, index, lease))
        except RegistryError:
            self._stop_clock(lease.id)
            raise
        return lease.id

    async def renew(self, lease: str) -> None:
        """Costs no write: deadlines are in memory."""
        ttl = self._ttls.get(lease)
        if ttl is None:
            raise NotFound(f"lease {lease} does not exist: it has expired, grant a new one")
        self._start_clock(lease, ttl)

    async def revoke(self, lease: str) -> None:
        """Ending an unknown lease is no error."""
        ttl = self._stop_clock(lease)  # first: from here on it cannot be renewed
        try:
            await self._worker.write(lambda db, index: sqlite_tables.end_leases(db, index, (lease,)))
        except RegistryError:
            if ttl is not None:
                self._start_clock(lease, ttl)
            raise

    async def expire(self) -> int:
        """End the leases whose time is over, all in one write. Returns how many. Raises Corrupt, Unavailable."""
        now = self._clock()
        due = {lease: ttl for lease, ttl in self._ttls.items() if self._deadlines.get(lease, now + 1) <= now}
        if not due:
            return 0
        for lease in due:  # first: from here on a renewal is refused, so none is promised time that it does not get
            self._stop_clock(lease)
        ended = tuple(due)
        try:
            return await self._worker.write(lambda db, index: sqlite_tables.end_leases(db, index, ended))
        except (RegistryError, asyncio.CancelledError):
            self._ttls.update(due)
            self._deadlines.update(dict.fromkeys(due, now + RETRY_EXPIRY))
            raise

    async def run(self) -> None:
        """End leases when their time is over, for ever. A disk that refuses delays that, it does not end this."""
        last = self._clock()
        while True:
            due = min(self._deadlines.values(), default=last + self.tick)
            delay = max(0.0, min(due - last, self.tick))
            self._sooner.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._sooner.wait()
            except TimeoutError:
                pass
            now = self._clock()
            self.forgive(now - last - delay)
            last = now
            try:
                await self.expire()
            except Unavailable:
                continue  # the writers are told; the deadlines have moved

    def forgive(self, stalled: float) -> None:
        """Give every lease the seconds back in which this process did not run: nobody could renew."""
        if stalled < self.tick:
            return
        for lease in self._deadlines:
            self._deadlines[lease] += stalled

    # ---- watches ------------------------------------------------------------------------------------------------

    def watch(self, selector: str, *, after: int | None = None) -> PrefixWatch:
        async def listing() -> Listing:
            return await self._worker.read(lambda db: sqlite_tables.selected(db, selector))

        return PrefixWatch(self._log, selector, after, listing, self._pace)

    @property
    def watching(self) -> int:
        """Watches and waits that hold something here now."""
        return self._log.held

    async def close(self) -> None:
        """End all watches and free the file. Idempotent."""
        self._log.close(f"{self._worker.path}: the store is closed")
        await self._worker.close()

    def _start_clock(self, lease: str, ttl: float) -> None:
        self._ttls[lease] = ttl
        if ttl > 0:
            deadline = self._clock() + ttl
            self._deadlines[lease] = deadline
            if deadline <= min(self._deadlines.values()):
                self._sooner.set()

    def _stop_clock(self, lease: str) -> float | None:
        self._deadlines.pop(lease, None)
        return self._ttls.pop(lease, None)


def _check(op: Op) -> None:
    if not keys.valid_key(op.key):
        raise Denied(f"{op.key[:600]!r} is not a key: [A-Za-z0-9._/-], 1-512, no empty, '.' or '..' segment")
    if op.value is not None and len(op.value) > MAX_VALUE:
        raise TooLarge(f"{op.key}: {len(op.value)} bytes, {MAX_VALUE} at most")
