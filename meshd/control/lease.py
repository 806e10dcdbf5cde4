"""The host is alive: `leases/<node>` held by a lease, `nodes/<node>` beside it, both put again when they are lost.

A restarted meshd goes on with the lease of the one before (its id lies in RunDir), so that callers never see the host
as gone. While the registry is away nothing is decided here: the fold of the other hosts does that.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import msgspec

from registry import keys, values
from registry.errors import Conflict, NotFound, RegistryError
from registry.model import Node
from registry.store import Store

RENEWS = 3  # renewals per TTL: two may be lost
RETRY = (0.1, 2.0)  # seconds: first and longest pause after a failure


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...


class Lease:
    """`id` is the lease in force, None while there is none. `on_lease` is called with each new one.

    `home` false: a registry that keeps instances and leases alone, without `nodes/<node>`.
    """

    def __init__(self, store: Store, node: Node, ttl: float, remembered: Path, log: Log, *, home: bool = True) -> None:
        self._store = store
        self._node = node
        self._ttl = ttl
        self._remembered = remembered
        self._home = home
        self._log = log
        self._lost = asyncio.Event()
        self.id: str | None = None
        self.problem = ""
        self.on_lease: Callable[[], None] = lambda: None
        self.on_contact: Callable[[], None] = lambda: None

    def lost(self) -> None:
        """Our key is not in the store any more (the fold saw it go): put it again now."""
        self._lost.set()

    async def run(self) -> None:
        """Keep the lease alive for ever."""
        pause = RETRY[0]
        while True:
            try:
                if self.id is None:
                    await self._acquire()
                else:
                    await self._renew(self.id)
                if self.problem:
                    self.on_contact()
                self.problem, pause = "", RETRY[0]
            except RegistryError as error:
                if not self.problem:
                    self._log.warning("lease cannot be kept", error=str(error))
                self.problem = f"{type(error).__name__}: {error}"
                await asyncio.sleep(pause)
                pause = min(RETRY[1], pause * 2)
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._ttl / RENEWS):
                    await self._lost.wait()

    async def _acquire(self) -> None:
        lease = await self._resumed() or await self._store.grant(self._ttl, name=f"meshd {self._node.name}")
        self._lost.clear()
        await self._put(lease)
        self.id = lease
        with contextlib.suppress(OSError):
            self._remembered.write_text(lease)
        self._log.info("lease", id=lease, ttl=self._ttl)
        self.on_lease()

    async def _resumed(self) -> str | None:
        """The lease of the meshd before us, if it is still alive."""
        try:
            lease = self._remembered.read_text().strip()
            if lease:
                await self._store.renew(lease)
                return lease
        except (OSError, NotFound, UnicodeDecodeError):
            pass
        return None

    async def _put(self, lease: str) -> None:
        value = msgspec.json.encode({"Node": self._node.name})
        key = keys.lease(self._node.name)
        try:
            await self._store.put(key, value, lease=lease)
        except Conflict:
            # Held by a lease that nobody renews any more, but which has not expired yet; it is ours to remove.
            await self._store.delete(key)
            await self._store.put(key, value, lease=lease)
        if self._home:
            await self._store.put(keys.node(self._node.name), values.write(self._node))

    async def _renew(self, lease: str) -> None:
        try:
            if self._lost.is_set():
                self._lost.clear()
                await self._put(lease)
            await self._store.renew(lease)
        except NotFound:
            self._log.warning("lease expired", id=lease)
            self.id = None
            await self._acquire()

    async def release(self) -> None:
        """This host stops on purpose: let go at once instead of making others wait for the TTL."""
        lease, self.id = self.id, None
        if lease is not None:
            with contextlib.suppress(RegistryError):
                await self._store.revoke(lease)
            self._remembered.unlink(missing_ok=True)
