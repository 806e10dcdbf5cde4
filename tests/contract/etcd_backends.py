"""`EtcdStore` under the contract: against etcd 3.4 and 3.7, with TLS and authentication."""

import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from registry.backends.etcd import EtcdStore
from registry.backends.etcd_together import MOST
from registry.errors import NotFound
from registry.store import Op
from tests.contract.backends import Backend, Bench
from tests.etcd_server import ROOT_ACCOUNT, SharedEtcd, newer
from tests.fakes.running import running

ALIVE = 0.2  # seconds: silence is soon said
LAG = 32

CAN = frozenset({"leases", "locks", "forget", "restart", "lag", "network"})


def opener(shared: SharedEtcd) -> Callable[[Path], AbstractAsyncContextManager[Bench]]:
    @asynccontextmanager
    async def open_etcd(directory: Path) -> AsyncIterator[Bench]:
        server = shared.server()

        def connect(port: int) -> EtcdStore:
            url = f"https://{server.host}:{port}"
            return EtcdStore([url], token=lambda: ROOT_ACCOUNT, tls=shared.tls, alive=ALIVE, lag=LAG)

        store = connect(server.port)
        bench = Bench(store, lag=LAG, max_ops=MOST, at=(server.host, server.port), connect=connect)
        bench.held = server.watchers

        async def forget() -> None:
            await store.put("elsewhere/key", b"%d" % await store.index(""))
            with suppress(NotFound):
                await store.compact(await store.index(""))

        async def restart() -> None:
            server.stop(signal.SIGTERM)
            server.start()

        bench.forget, bench.restart = forget, restart
        await wipe(store)
        try:
            async with running(store.run()):
                yield bench
        finally:
            await store.close()
            shutil.rmtree(directory, ignore_errors=True)

    return open_etcd


async def wipe(store: EtcdStore) -> None:
    """What earlier tests left: leases and keys. The revisions go on."""
    for lease in await store.leases():
        await store.revoke(lease.id)
    found = (await store.list("")).entries
    for start in range(0, len(found), MOST):
        await store.transact([Op(key=entry.key, value=None) for entry in found[start : start + MOST]])


ETCD_BACKENDS = (
    Backend("etcd-3.4", opener(SharedEtcd()), CAN),
    Backend("etcd-3.7", opener(SharedEtcd(newer)), CAN),
)
