"""The embedded registry behind its HTTP API as a process of its own: killed, frozen and wiped as foreign servers are.

python -m tests.contract.embedded_server DATABASE HOST PORT
"""

import asyncio
import signal
import sys
from pathlib import Path

from aiohttp import web

from registry.api.access import Access
from registry.api.app import build_app, runner
from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from registry.catalog import KvCatalog
from tests.fakes.agent import FakeAgent
from tests.fakes.running import running


async def main(path: Path, host: str, port: int) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    store = SqliteStore.open(path)
    catalog = KvCatalog(store)
    deps = Deps(store=store, catalog=catalog, agent=FakeAgent(catalog, "n1"), access=Access(open=True), node="n1")
    served = runner(build_app(deps))
    await served.setup()
    await web.TCPSite(served, host, port).start()
    async with running(store.run()):
        await stop.wait()
    await served.cleanup()
    await store.close()


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])))
