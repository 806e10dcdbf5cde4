"""`meshd run --config FILE` and `meshd dev`: wiring only.

Exit codes: 0 ended on request, 1 a part crashed, 78 the configuration cannot be used.
"""

import argparse
import asyncio
import gc
import os
import random
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from meshd import dev
from meshd.agent import Agent, Surroundings
from meshd.config import Host, load
from meshd.control import join
from meshd.notify import notify
from meshd.placed import ConfigError, Fault
from meshd.ports import Lock
from meshd.serve import Bound, Listeners, bind, publish_authority
from meshd.tasks import Crashed, Tasks, first
from meshd.telemetry import log as logs
from registry.backends.consul import ConsulStore
from registry.backends.sqlite import SqliteStore
from registry.ca import files, names, tls
from registry.errors import RegistryError
from registry.store import SessionStore

BAD_CONFIG = 78

StoreAs = Callable[[str], SessionStore] | None


def main(argv: Sequence[str] | None = None) -> None:
    """Console entry point."""
    parser = argparse.ArgumentParser(prog="meshd", description="The control process of one host of the mesh.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="run this host of a mesh")
    run.add_argument("--config", type=Path, metavar="FILE")
    develop = commands.add_parser("dev", help="a mesh of one host, without configuration, open to every local user")
    for command in (run, develop):
        command.add_argument("--set", action="append", default=[], metavar="A.B=C", help="overrides the file")
    given = parser.parse_args(argv)
    try:
        if given.command == "dev":
            host = dev.prepare(load(None, os.environ, [*dev.settings(), *given.set]), time.time())
        else:
            host = load(given.config, os.environ, given.set)
        sys.exit(asyncio.run(serve(host)))
    except ConfigError as error:
        for fault in error.faults:
            print(f"meshd: {fault}", file=sys.stderr)
        sys.exit(BAD_CONFIG)


async def serve(host: Host) -> int:
    """Run one host until a signal or a crash. Raises ConfigError."""
    log = logs.install(time.time, node=host.node)
    around = Surroundings(log, os.environ, time.time, time.monotonic, random.random)
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    lock = Lock(host.run)
    try:
        bound = bind(host)
        joining = join.ensure(host, log, around.now, around.chance)
        await first(_event(stop), joining)  # a signal ends the wait for an authority
        return await live(host, around, bound, stop) if not stop.is_set() else 0
    finally:
        lock.close()


async def live(host: Host, around: Surroundings, bound: Bound, stop: asyncio.Event) -> int:
    """The part with an identity: store, agent, listeners, and their end."""
    store, store_as, addresses = open_store(host)
    side = Tasks("store", around.log)
    try:
        if isinstance(store, SqliteStore):
            side.start("leases", store.run)
        agent = Agent(host, store, addresses, around)
        agent.load()
        listeners = Listeners(agent, bound, store_as)
        await listeners.start()
        if "ca" in host.roles:
            problem = await publish_authority(store, files.Layout(host.data))
            if problem:
                around.log.error("wrong store", problem=problem)
        agent.start()
        around.log.info("listening", api=f"{host.loopback}:{host.ports.api}", admin=host.ports.admin,
                        inbound=f"{host.bind.inbound}:{host.ports.inbound}", advertise=agent.address,
                        identity=names.node_id(agent.identities.trust_domain, host.node),
                        open_access=host.development)  # fmt: skip
        gc.freeze()
        code = await attend(agent, side, stop)
        notify(around.environ, "STOPPING=1")
        if code == 0:
            await agent.drain()
        await agent.stop()
        await listeners.stop()
        return code
    except RegistryError as error:
        raise ConfigError(Fault(str(host.data), str(error))) from error
    finally:
        await side.stop()
        await store.close()


async def attend(agent: Agent, side: Tasks, stop: asyncio.Event) -> int:
    """Wait for a signal (0) or a crash (1); say READY once."""
    ready = Tasks("ready", agent.log)
    ready.start("notify", lambda: agent.ready(lambda: notify(agent.around.environ, "READY=1")))
    try:
        await first(_event(stop), agent.tasks.failed(), side.failed())
    except Crashed as crash:
        if isinstance(crash.__cause__, ConfigError):
            raise crash.__cause__ from None
        agent.log.error("ending", reason=str(crash))
        return 1
    finally:
        await ready.stop()
    return 0


async def _event(event: asyncio.Event) -> None:
    await event.wait()


def open_store(host: Host) -> tuple[SessionStore, StoreAs, tuple[str, ...]]:
    """The backend by `Registry.Kind`, the same under a caller's token, and where the authority answers."""
    kind = host.registry.kind
    if kind == "sqlite":
        host.data.mkdir(parents=True, exist_ok=True)
        own = host.loopback if host.bind.peer in ("0.0.0.0", "::") else host.bind.peer
        return SqliteStore.open(host.data / "registry.sqlite"), None, (f"{own}:{host.ports.peer}",)
    if kind == "mesh":
        layout = files.Layout(host.data)
        peer = names.peer_name(files.load_trust_domain(layout))
        addresses = host.registry.all_addresses
        urls = [address if "://" in address else f"https://{address}" for address in addresses]
        store = ConsulStore(urls, ssl=tls.client_context(layout), server_hostname=peer)
        return store, store.acting_as, addresses
    # Consul and etcd servers open here, each with its own backend.
    raise ConfigError(Fault("Registry.Kind", f"{kind} is not supported yet", "sqlite, or mesh for another host's"))
