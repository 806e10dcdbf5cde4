"""`meshd run --config FILE`, `meshd dev` and `meshd config show`: wiring only.

Exit codes: 0 ended on request, 1 a part crashed, 78 the configuration cannot be used.
"""

import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial

from meshd import arguments, dev, origin
from meshd.agent import Agent, attend, signalled
from meshd.config import Host, load
from meshd.control import join
from meshd.control.authority import recover
from meshd.control.contact import Contact
from meshd.dataplane.supervise import binary
from meshd.notify import notify
from meshd.placed import ConfigError, Fault
from meshd.ports import Lock
from meshd.serve import Bound, Listeners, bind, keep_published
from meshd.stores import open_stores
from meshd.surroundings import Surroundings
from meshd.tasks import Tasks, first
from meshd.telemetry import log as logs
from registry.ca import files
from registry.errors import RegistryError

BAD_CONFIG = 78


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    given = arguments.parser().parse_args(argv)
    sets = [*dev.settings(), *given.set] if given.command == "dev" else given.set
    try:
        if given.command == "config":
            print(origin.render(origin.rows(given.config, os.environ, sets), origins=given.origin, output=given.output))
            return
        reread = partial(load, given.config, os.environ, sets)
        host = dev.prepare(reread(), time.time()) if given.command == "dev" else reread()
        sys.exit(asyncio.run(serve(host, reread)))
    except (ConfigError, RegistryError) as error:
        for fault in getattr(error, "faults", (f"Registry: {error}",)):
            print(f"meshd: {fault}", file=sys.stderr)
        sys.exit(BAD_CONFIG)


async def serve(host: Host, reread: Callable[[], Host]) -> int:
    """Run one host until a signal or a crash. Raises ConfigError."""
    log = logs.install(time.time, node=host.node)
    around = Surroundings(log, os.environ, time.time, time.monotonic, random.random, Contact(), reread)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    # Until there is something to reload it must not end us; ignoring it would be handed down to the proxy.
    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, lambda: None)
    if host.proxy.manage:
        binary(host, os.environ)
    lock = Lock(host.run)
    try:
        bound = bind(host)
        if "ca" in host.roles and files.Layout(host.data).store_id.exists():
            await asyncio.to_thread(recover, files.Layout(host.data), host.node, around.now())
        joining = join.ensure(host, log, around.now, around.chance)
        await first(signalled(stop), joining)  # a signal ends the wait for an authority
        return await live(host, around, bound, stop) if not stop.is_set() else 0
    finally:
        lock.close()


async def live(host: Host, around: Surroundings, bound: Bound, stop: asyncio.Event) -> int:
    """The part with an identity: store, agent, listeners, and their end."""
    opened = open_stores(host, around)
    side = Tasks("store", around.log)
    try:
        for name, run in opened.runs.items():
            side.start(name, run)
        agent = Agent(host, opened.store, opened.addresses, around, opened.catalog, opened.registries)
        agent.load()
        listeners = Listeners(agent, bound, opened.acting_as, opened.home)
        await listeners.start()
        if "ca" in host.roles:
            side.start("publish", lambda: keep_published(opened.store, files.Layout(host.data), around.log))
        agent.start()
        agent.announce()
        gc.freeze()
        try:
            code = await attend(agent, side, stop)
        except ConfigError:
            await agent.stop()
            raise
        notify(around.environ, "STOPPING=1")
        if code == 0 and host.proxy.manage:  # else only meshd ends: the proxy of another unit serves on
            await agent.drain()
        await agent.stop()
        await listeners.stop()
        return code
    except RegistryError as error:
        raise ConfigError(Fault(str(host.data), str(error))) from error
    finally:
        await side.stop()
        await opened.store.close()
