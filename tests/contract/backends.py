"""The stores that the contract suite runs on. To add one: write a module with a `Backend` and name it in `BACKENDS`.

A test takes the `bench` fixture and runs on every backend that has what the test `needs`:

    @needs("leases", "time")
    async def test_an_expired_lease_takes_its_keys_along(bench: Bench) -> None: ...

leases    grant, renew, revoke and keys with a lease
time      `bench.pass_time(seconds)`: the store's clock for leases goes on without waiting
locks     acquire, release and leases() (`registry.store.SessionStore`)
index     index() and wait_index() of exactly one prefix (`registry.store.Indexed`)
forget    `bench.forget()`: after it, what happened before is no longer in the store's history
restart   `bench.restart()`: the server stops and starts again on the same data
lag       `bench.lag` keys may wait for a slow watch, no more
network   `bench.at` is where the server listens, `bench.connect(port)` a further store by way of a relay on its host
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from registry.backends.sqlite import SqliteStore
from registry.backends.union import Member, UnionStore
from registry.store import Store
from tests.fakes.clock import Clock

Test = TypeVar("Test", bound=Callable[..., object])


async def _cannot(*_: object) -> None:
    raise NotImplementedError("the backend does not claim this capability")


def _nowhere(_port: int) -> Store:
    raise NotImplementedError("the backend does not claim this capability")


@dataclass
class Bench:
    """One store under test. `root` is a prefix that is this test's own, and empty at its start."""

    store: Store
    root: str = "mesh/v1/test/"
    ttl: float = 10.0  # of leases; Consul takes no shorter one
    lag: int = 0
    max_ops: int = 0  # of a transaction; 0: no bound
    at: tuple[str, int] = ("", 0)
    connect: Callable[[int], Store] = _nowhere
    held: Callable[[], int] = lambda: 0  # watches and waits at the server; Consul does not tell
    pass_time: Callable[[float], Awaitable[None]] = _cannot
    forget: Callable[[], Awaitable[None]] = _cannot
    restart: Callable[[], Awaitable[None]] = _cannot  # replaces `store`


@dataclass(frozen=True)
class Backend:
    """`open` makes a bench on data below a directory, and frees everything at its end."""

    name: str
    open: Callable[[Path], AbstractAsyncContextManager[Bench]]
    can: frozenset[str] = field(default_factory=frozenset)


def needs(*capabilities: str) -> Callable[[Test], Test]:
    def mark(test: Test) -> Test:
        test.needs = frozenset(capabilities)  # type: ignore[attr-defined]  # read by conftest
        return test

    return mark


@asynccontextmanager
async def open_sqlite(directory: Path) -> AsyncIterator[Bench]:
    clock = Clock()
    path = directory / "registry.db"

    def reopen() -> SqliteStore:
        return SqliteStore.open(path, clock=clock.time, alive=0.2, log_size=LOG, lag=LAG)

    bench = Bench(reopen(), lag=LAG)

    def store() -> SqliteStore:
        assert isinstance(bench.store, SqliteStore)
        return bench.store

    async def pass_time(seconds: float) -> None:
        clock.now += seconds
        await store().expire()

    async def forget() -> None:
        for n in range(LOG + 1):
            await store().put("elsewhere/key", b"%d" % n)

    async def restart() -> None:
        await store().close()
        bench.store = reopen()

    bench.pass_time, bench.forget, bench.restart = pass_time, forget, restart
    bench.held = lambda: store().watching
    try:
        yield bench
    finally:
        await store().close()


@asynccontextmanager
async def open_union(directory: Path) -> AsyncIterator[Bench]:
    """Two stores below `services/`; all is written to the first. `tests/property/test_merge.py` has both changing."""
    home, other = (SqliteStore.open(directory / name, alive=0.2) for name in ("home.db", "other.db"))
    store = UnionStore((Member("home", home), Member("other", other)))
    try:
        yield Bench(store, root="mesh/v1/services/test/")
    finally:
        await store.close()


LOG = 64
LAG = 32

BACKENDS = (
    Backend("sqlite", open_sqlite, frozenset({"leases", "time", "locks", "index", "forget", "restart", "lag"})),
    Backend("union", open_union, frozenset({"locks"})),
)
