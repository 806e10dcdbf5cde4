"""An authority with a store in memory that can go away, served over real TLS on loopback."""

import ssl
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import cast

from aiohttp import web

from registry.ca import client, files, tls
from registry.ca.authority import Authority, Deps
from registry.ca.certificate import Lifetimes
from registry.ca.entitlement import Entitlement
from registry.ca.init import First, Initialised, init
from registry.ca.routes import routes
from registry.errors import Conflict, Unavailable
from registry.model import Instance
from registry.store import Entry, Listing, Store
from tests.fakes.clock import Clock


@dataclass
class MemoryStore:
    """get, list, put and delete of a Store; `away` makes each fail, `torn` makes a write fail after it was applied."""

    away: bool = False
    torn: bool = False
    entries: dict[str, Entry] = field(default_factory=dict)
    index: int = 0
    max_value: int = 512 * 1024

    async def get(self, key: str) -> Entry | None:
        self._here()
        return self.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        self._here()
        found = tuple(self.entries[key] for key in sorted(self.entries) if key.startswith(prefix))
        return Listing(found, self.index)

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        self._here()
        there = self.entries.get(key)
        if expect is not None and (there.version if there else 0) != expect:
            raise Conflict(f"{key} is not at {expect}")
        self.index += 1
        created = there.created if there else self.index
        self.entries[key] = Entry(key=key, value=value, version=self.index, created=created)
        if self.torn:
            raise Unavailable("timed out after the write")
        return self.index

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        self._here()
        self.entries.pop(key, None)
        self.index += 1
        return self.index

    def _here(self) -> None:
        if self.away:
            raise Unavailable("the store is away")


@dataclass
class World:
    """One authority on host `a` and what it works with; `instances` is what the registry says."""

    layout: files.Layout
    made: Initialised
    clock: Clock
    store: MemoryStore = field(default_factory=MemoryStore)
    instances: dict[tuple[str, str, str], Instance] = field(default_factory=dict)
    lifetimes: Lifetimes = field(default_factory=Lifetimes)

    def authority(self) -> Authority:
        deps = Deps(cast(Store, self.store), self.lookup, self.clock.time, lifetimes=self.lifetimes)
        return Authority(self.layout, "a", deps)

    async def lookup(self, service: str, node: str, instance_id: str) -> Instance | None:
        await self.store.get("services/")  # away: Unavailable
        return self.instances.get((service, node, instance_id))

    def register(self, service: str, node: str, instance_id: str) -> None:
        instance = Instance(service=service, node=node, id=instance_id, address="127.0.0.1", port=1)
        self.instances[(service, node, instance_id)] = instance


def world(path: Path, first: First | None = None, now: float | None = None) -> World:
    """An authority below `path`, made at `now` (default: the real time, which TLS needs)."""
    now = time.time() if now is None else now
    made = init(path, first or First(node="a"), now)
    return World(files.Layout(path), made, Clock(now))


@asynccontextmanager
async def serve(a_world: World, authority: Authority | None = None) -> AsyncIterator[str]:
    """The routes behind the authority's TLS on a free port; yields `127.0.0.1:port`."""
    served = authority or a_world.authority()
    app = web.Application()
    app.add_routes(routes(served, a_world.clock.time, lambda: ("127.0.0.1:15444",)))
    async with serve_app(app, tls.server_context(a_world.layout)) as address:
        yield address


@asynccontextmanager
async def serve_app(app: web.Application, context: ssl.SSLContext) -> AsyncIterator[str]:
    runner = web.AppRunner(app)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context)
        await site.start()
        yield f"127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


async def joined(
    a_world: World, address: str, path: Path, node: str, services: Sequence[str] = ()
) -> tuple[files.Layout, client.Granted]:
    """Join as `node`, entitled to `services`, and store the identity below `path`."""
    token = a_world.authority().join_token(node, Entitlement(services=tuple(services)), 600.0)
    granted = await client.join([address], token, a_world.made.root_hash, a_world.clock.time)
    layout = files.Layout(path)
    files.save(layout.node, granted.credentials)
    files.save_trust(layout, granted.roots, granted.trust_domain)
    return layout, granted


def place(layout: files.Layout, addresses: Sequence[str], clock: Clock) -> client.Place:
    """A joined host's way to its authorities."""
    return client.from_files(layout, addresses, clock.time, tls.client_context(layout))
