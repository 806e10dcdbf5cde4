"""`EtcdStore` under the contract: against etcd 3.4 and 3.7, with TLS and authentication."""

import shutil
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path

from registry.backends.etcd import EtcdStore
from registry.errors import NotFound
from tests.contract.backends import Backend, Bench
from tests.etcd_server import ROOT_ACCOUNT, SharedEtcd, newer
from tests.fakes.running import running

ALIVE = 0.2  # seconds: silence is soon said
LAG = 32

CAN = frozenset({"leases", "locks", "forget", "restart", "lag"})


def opener(shared: SharedEtcd) -> Callable[[Path], AbstractAsyncContextManager[Bench]]:
    @asynccontextmanager
    async def open_etcd(directory: Path) -> AsyncIterator[Bench]:
        server = shared.server()
        store = EtcdStore([server.url], token=lambda: ROOT_ACCOUNT, tls=shared.tls, alive=ALIVE, lag=LAG)
        bench = Bench(store, lag=LAG)

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
    for entry in (await store.list("")).entries:
        await store.delete(entry.key)


ETCD_BACKENDS = (
    Backend("etcd-3.4", opener(SharedEtcd()), CAN),
    Backend("etcd-3.7", opener(SharedEtcd(newer)), CAN),
)
