"""`ConsulStore` under the contract: the embedded registry over HTTP; Consul 1.8 and 1.13, with TLS and ACLs."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from registry.api.access import Access
from registry.api.app import build_app, runner
from registry.api.context import Deps
from registry.backends.consul import ConsulStore
from registry.backends.consul_txn import MAX_STEPS
from registry.backends.sqlite import SqliteStore
from registry.catalog import KvCatalog
from tests.consul_server import NEWER, OLDER, ConsulServer, SharedConsul
from tests.contract.backends import Backend, Bench
from tests.fakes.agent import FakeAgent
from tests.fakes.clock import Clock

LOG = 64
WAIT = 0.3  # seconds of a blocking query: silence is soon said
CONSULS = {"consul-1.8": SharedConsul(OLDER), "consul-1.13": SharedConsul(NEWER)}


@dataclass
class Served:
    """The embedded registry behind its HTTP API, on one port over restarts."""

    path: Path
    clock: Clock
    port: int = 0
    store: SqliteStore | None = None
    app: web.AppRunner | None = None

    async def start(self) -> None:
        self.store = SqliteStore.open(self.path, clock=self.clock.time, log_size=LOG)
        catalog = KvCatalog(self.store)
        deps = Deps(
            store=self.store,
            catalog=catalog,
            agent=FakeAgent(catalog, "n1"),
            access=Access(open=True),
            node="n1",
            random=lambda: 0.0,
        )
        self.app = runner(build_app(deps))
        await self.app.setup()
        site = web.TCPSite(self.app, "127.0.0.1", self.port)
        await site.start()
        self.port = self.app.addresses[0][1]

    async def stop(self) -> None:
        assert self.app is not None
        assert self.store is not None
        await self.app.cleanup()
        await self.store.close()


@asynccontextmanager
async def open_embedded(directory: Path) -> AsyncIterator[Bench]:
    served = Served(directory / "registry.db", Clock())
    await served.start()

    def connect(port: int) -> ConsulStore:
        return ConsulStore([f"http://127.0.0.1:{port}"], wait=WAIT)

    bench = Bench(connect(served.port), max_ops=MAX_STEPS, at=("127.0.0.1", served.port), connect=connect)
    bench.held = lambda: served.store.watching if served.store is not None else 0

    async def pass_time(seconds: float) -> None:
        served.clock.now += seconds
        assert served.store is not None
        await served.store.expire()

    async def forget() -> None:
        assert served.store is not None
        for n in range(LOG + 1):
            await served.store.put("elsewhere/key", b"%d" % n)

    async def restart() -> None:
        await served.stop()
        await served.start()

    bench.pass_time, bench.forget, bench.restart = pass_time, forget, restart
    try:
        yield bench
    finally:
        await bench.store.close()
        await served.stop()


def opener(shared: SharedConsul) -> Callable[[Path], AbstractAsyncContextManager[Bench]]:
    @asynccontextmanager
    async def open_consul(directory: Path) -> AsyncIterator[Bench]:
        server = shared.server()
        wipe(server)

        def connect(port: int) -> ConsulStore:
            url = f"https://{server.host}:{port}"
            return ConsulStore([url], token=lambda: server.management, ssl=server.client_context(), wait=WAIT)

        bench = Bench(connect(server.port), max_ops=MAX_STEPS, at=(server.host, server.port), connect=connect)
        try:
            yield bench
        finally:
            await bench.store.close()

    return open_consul


def wipe(server: ConsulServer) -> None:
    """What earlier tests left: sessions and keys. The indexes go on."""
    for session in server.call("GET", "/v1/session/list"):
        server.call("PUT", f"/v1/session/destroy/{session['ID']}")
    server.call("DELETE", "/v1/kv/?recurse")


HTTP_BACKENDS = (
    Backend(
        "embedded-http", open_embedded, frozenset({"leases", "time", "locks", "index", "forget", "restart", "network"})
    ),
    *(Backend(name, opener(shared), frozenset({"leases", "locks", "network"})) for name, shared in CONSULS.items()),
)
