"""The host's listeners: the local API on 15500 and `api.sock`, admin on 15590, other hosts on 15444.

Sockets are bound first, all of them, so that a taken port is found before anything is started.
"""

import asyncio
import grp
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace

import msgspec
from aiohttp import web

from meshd import ports
from meshd.admin import api, app
from meshd.agent import Agent
from meshd.config import Host
from meshd.telemetry.log import Log
from registry import keys, store_id
from registry.api.access import Access, Grant
from registry.api.app import build_app, runner
from registry.api.context import Deps
from registry.ca import bundle, files, init, routes, token
from registry.catalog import KvCatalog
from registry.errors import Conflict, RegistryError
from registry.store import SessionStore, Store

ADMIN_GROUP = "meshd"
PUBLISH_RETRY = 1.0  # seconds
SHORTEST_LEASE = 2.0  # seconds: the least that `LeaseTTL` of any host may be


class Bound(msgspec.Struct, frozen=True):
    """Sockets that listen already. `peer` only on hosts with a role."""

    api: socket.socket
    admin: socket.socket
    local: socket.socket
    peer: socket.socket | None

    def close(self) -> None:
        for sock in (self.api, self.admin, self.local, self.peer):
            if sock is not None:
                sock.close()


def bind(host: Host) -> Bound:
    """Raises ConfigError for the first port that is taken. The lock of RunDir must be held: `api.sock` is replaced."""
    api_port = ports.listen("Ports.Api", host.loopback, host.ports.api)
    admin = ports.listen("Ports.Admin", host.loopback, host.ports.admin)
    peer = ports.listen("Ports.Peer", host.bind.peer, host.ports.peer) if host.roles else None
    return Bound(api_port, admin, _unix(host), peer)


def _unix(host: Host) -> socket.socket:
    path = host.run / "api.sock"
    path.unlink(missing_ok=True)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    sock.bind(str(path))
    path.chmod(0o666)  # everyone may connect; the kernel says who it is, and that decides
    sock.listen(1024)
    sock.setblocking(False)
    return sock


class Listeners:
    """The applications on bound sockets. `home`: what other hosts are served from, the registry of this host alone."""

    def __init__(
        self,
        agent: Agent,
        bound: Bound,
        store_as: Callable[[str], SessionStore] | None,
        home: SessionStore | None = None,
    ) -> None:
        self._agent = agent
        self._bound = bound
        self._store_as = store_as
        self._home = home or agent.store
        self._runners: list[web.AppRunner] = []

    async def start(self) -> None:
        deps = self._deps()
        local = build_app(deps)
        api.mount(local, deps, self._agent)
        await self._serve(local, (self._bound.api, self._bound.local))
        await self._serve(app.build(self._agent), (self._bound.admin,))
        if self._bound.peer is not None:
            await self._serve_peers(deps, self._bound.peer)
        self._agent.listening = True

    async def _serve(self, application: web.Application, sockets: Sequence[socket.socket]) -> None:
        served = runner(application)
        await served.setup()
        self._runners.append(served)
        for sock in sockets:
            await web.SockSite(served, sock).start()

    async def _serve_peers(self, deps: Deps, sock: socket.socket) -> None:
        agent = self._agent
        if self._home is not agent.store:  # the others merge for themselves
            deps = replace(deps, store=self._home, catalog=KvCatalog(self._home))
        # beside a registry of its own kind, 15444 is the authority's alone
        peers = build_app(deps, peer=True) if "registry" in agent.host.roles else web.Application()
        if agent.authority is not None:
            address = f"{agent.address}:{agent.host.ports.peer}"
            peers.router.add_routes(routes.routes(agent.authority, agent.around.now, lambda: (address,)))
        served = runner(peers)
        await served.setup()
        self._runners.append(served)
        await web.SockSite(served, sock, ssl_context=agent.identities.server_context()).start()

    def _deps(self) -> Deps:
        agent, host = self._agent, self._agent.host
        chain = files.read_certificates(files.Layout(host.data).node.certificate)
        operators = token.Operators(agent.identities.trust_domain, chain[1:])

        def verified(text: str) -> str | None:
            if host.registry.kind in ("consul", "etcd"):
                return f"with an account of {host.registry.kind}"  # every write goes out under it: the store decides
            return operators.verify(text, agent.around.now())

        return Deps(
            store=agent.store,
            catalog=agent.catalog,
            agent=agent.registrar,
            access=access(host),
            node=host.node,
            verify_token=verified,
            identify=agent.identities.identify,
            store_as=self._store_as,
            own_addresses=agent.own_addresses,
            min_session_ttl=SHORTEST_LEASE,
            leader=f"{agent.address}:{host.ports.peer}",
            random=agent.around.chance,
        )

    async def stop(self) -> None:
        for served in self._runners:
            await served.cleanup()
        self._bound.close()


def access(host: Host) -> Access:
    """Who may do what over the local API, from the host's configuration."""
    gids: frozenset[int] = frozenset()
    with suppress(KeyError):
        gids = frozenset((grp.getgrnam(ADMIN_GROUP).gr_gid,))
    grants = tuple(Grant(frozenset(one.uids), frozenset(one.services)) for one in host.register)
    return Access(
        open=host.development,
        register=grants,
        admin_uids=frozenset((0, os.geteuid())),
        admin_gids=gids,
    )


async def publish_authority(store: Store, layout: files.Layout) -> str:
    """Write what tells this store from another one: its id, and the root for people to see. Returns a problem or "".

    The id is written once in the life of an authority. A store that has lost it was wiped; writing it again would
    make every host believe what is left there.
    """
    problem = await _claim(store, layout)
    root = files.read_certificates(layout.roots)[0]
    with suppress(Conflict):
        await store.put(keys.CA_ROOTS + bundle.root_hash(root)[:32], bundle.publish(root), expect=0)
    return problem


async def _claim(store: Store, layout: files.Layout) -> str:
    own = init.read_store_id(layout)
    found = await store.get(keys.STORE_ID)
    if found is None and layout.store_claimed.exists():
        return store_id.WHY["absent"]
    if found is None:
        with suppress(Conflict):
            await store.put(keys.STORE_ID, own.encode(), expect=0)
        found = await store.get(keys.STORE_ID)
    if found is None or store_id.base(found.value.decode("ascii", "replace")) != own:
        return "the store belongs to another mesh: its store-id is not that of this host's authority"
    if not layout.store_claimed.exists():
        await asyncio.to_thread(files.write, layout.store_claimed, own.encode() + b"\n")
    return ""


async def keep_published(store: Store, layout: files.Layout, log: Log) -> None:
    """Publish once, as soon as the store takes it: the authority starts without one."""
    failing = False
    while True:
        try:
            problem = await publish_authority(store, layout)
        except RegistryError as error:
            if not failing:
                log.warning("authority not published yet", error=str(error))
            failing = True
            await asyncio.sleep(PUBLISH_RETRY)
            continue
        if problem:
            log.error("wrong store", problem=problem)
        return
