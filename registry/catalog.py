"""The catalogue: which instances there are, over any Store.

An instance leaves in two steps: `withdraw` marks it, so that every host sees the purpose and stops sending at once;
its key is deleted some time later. A key that vanishes without the mark is an accident, and treated as one (`fold`).
"""

import asyncio
import time
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from registry import keys, values
from registry.errors import Conflict, Corrupt, NotFound, RegistryError
from registry.model import Address, Instance, InstanceKey, Node
from registry.store import Entry, Store

DELETE_AFTER = 30.0  # seconds from withdrawal to deletion: longer than a watch needs to deliver the mark
TRIES = 5  # compare-and-set rounds: the key has one writer, so losing twice is rare already
RETRY = 1.0  # seconds until a deletion is tried again


class Catalog(Protocol):
    """All writes return the store index at which they can be seen. Errors: Unavailable, NotFound, Conflict, Denied.

    `foreign`: services with an instance of another tool on this host; `on_foreign` is called when they change.
    """

    foreign: frozenset[str]
    on_foreign: Callable[[], None]

    async def register(self, instance: Instance) -> int: ...

    async def withdraw(self, key: InstanceKey) -> int: ...

    async def remove(self, key: InstanceKey) -> None:
        """Take it away here, because it stands elsewhere: no mark, and nobody is to stop sending."""
        ...

    async def update(self, instance: Instance) -> int: ...

    async def get(self, key: InstanceKey) -> Instance | None: ...

    async def instances(self, service: str) -> tuple[Instance, ...]: ...

    async def services(self) -> Mapping[str, tuple[Instance, ...]]: ...

    async def nodes(self) -> tuple[Node, ...]: ...

    def finish(self, key: InstanceKey) -> None:
        """Delete this withdrawn instance of this host in due time: an earlier run has left it."""
        ...

    async def adopt(self, instance: Instance, inbound: Address | None) -> None:
        """Take another tool's instance of this host into the mesh, at `inbound`; None: let it go again."""
        ...


class KvCatalog:
    """A Catalog in keys. `run()` deletes what was withdrawn."""

    def __init__(
        self,
        store: Store,
        *,
        delete_after: float = DELETE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._delete_after = delete_after
        self._clock = clock
        self._leaving: dict[InstanceKey, float] = {}  # when the key is to be deleted
        self._news = asyncio.Event()
        self.foreign: frozenset[str] = frozenset()
        self.on_foreign: Callable[[], None] = lambda: None

    async def register(self, instance: Instance) -> int:
        """Write the instance, whatever was there. An unchanged one is no write."""
        self._leaving.pop(instance.key, None)
        return await self._store.put(_key(instance.key), values.write(instance))

    async def update(self, instance: Instance) -> int:
        """Write a registered instance anew. Raises NotFound; a withdrawn one stays withdrawn."""
        for _ in range(TRIES):
            entry, known = await self._known(instance.key)
            wanted = instance
            if known is not None and known.state == "withdrawn":
                wanted = msgspec.structs.replace(instance, state="withdrawn")
            try:
                return await self._store.put(entry.key, values.write(wanted), expect=entry.version)
            except Conflict:
                continue
        raise Conflict(f"{_key(instance.key)}: changed {TRIES} times while it was updated")

    async def withdraw(self, key: InstanceKey) -> int:
        """Mark the instance as leaving. Raises NotFound. Withdrawing twice is no error and no write."""
        for _ in range(TRIES):
            entry, known = await self._known(key)
            self._leave(key)
            if known is None:  # not readable by anybody: there is no traffic to take away
                return await self._store.delete(entry.key)
            if known.state == "withdrawn":
                return entry.version
            marked = values.write(msgspec.structs.replace(known, state="withdrawn"))
            try:
                return await self._store.put(entry.key, marked, expect=entry.version)
            except Conflict:
                continue
        raise Conflict(f"{_key(key)}: changed {TRIES} times while it was withdrawn")

    async def remove(self, key: InstanceKey) -> None:
        """Removing what is absent is no error."""
        self._leaving.pop(key, None)
        await self._store.delete(_key(key))

    async def get(self, key: InstanceKey) -> Instance | None:
        """Raises Corrupt when the stored bytes are not an instance."""
        entry = await self._store.get(_key(key))
        return values.read_instance(entry.key, entry.value) if entry is not None else None

    async def instances(self, service: str) -> tuple[Instance, ...]:
        """All instances of a service, in the order of their keys. Unreadable ones are left out."""
        return await self._read(f"{keys.SERVICES}{service}/")

    async def services(self) -> Mapping[str, tuple[Instance, ...]]:
        """All services by name, each with its instances in the order of their keys. Unreadable ones are left out."""
        found: dict[str, tuple[Instance, ...]] = {}
        for instance in await self._read(keys.SERVICES):
            found[instance.service] = (*found.get(instance.service, ()), instance)
        return found

    async def nodes(self) -> tuple[Node, ...]:
        """All joined hosts. Unreadable ones are left out."""
        found = []
        for entry in (await self._store.list(keys.NODES)).entries:
            try:
                found.append(values.read_node(entry.key, entry.value))
            except Corrupt:
                continue  # named by the fold of every host
        return tuple(found)

    def finish(self, key: InstanceKey) -> None:
        if key not in self._leaving:
            self._leave(key)

    async def adopt(self, instance: Instance, inbound: Address | None) -> None:
        """Keys of instances are written by meshd alone: what another tool writes here stays as it is."""

    async def run(self) -> None:
        """Delete withdrawn instances when their time has come, for ever."""
        while True:
            try:
                await self.sweep()
                delay = self._until_next()
            except RegistryError:
                delay = RETRY
            self._news.clear()
            try:
                async with asyncio.timeout(delay):
                    await self._news.wait()
            except TimeoutError:
                continue

    async def sweep(self) -> int:
        """Delete what is due now. Returns how many keys went. Raises Unavailable."""
        now = self._clock()
        gone = 0
        for key in [key for key, due in self._leaving.items() if due <= now]:
            gone += await self._delete(key)
            self._leaving.pop(key, None)
        return gone

    async def _delete(self, key: InstanceKey) -> bool:
        entry = await self._store.get(_key(key))
        if entry is None:
            return False
        try:
            if values.read_instance(entry.key, entry.value).state != "withdrawn":
                return False  # registered again
            await self._store.delete(entry.key, expect=entry.version)
        except (Conflict, Corrupt):
            return False  # registered again between the two calls, or by a newer version of meshd
        return True

    def _leave(self, key: InstanceKey) -> None:
        self._leaving[key] = self._clock() + self._delete_after
        self._news.set()

    def _until_next(self) -> float | None:
        return max(0.0, min(self._leaving.values()) - self._clock()) if self._leaving else None

    async def _known(self, key: InstanceKey) -> tuple[Entry, Instance | None]:
        entry = await self._store.get(_key(key))
        if entry is None:
            raise NotFound(f"{key} is not registered")
        try:
            return entry, values.read_instance(entry.key, entry.value)
        except Corrupt:
            return entry, None

    async def _read(self, prefix: str) -> tuple[Instance, ...]:
        found = []
        for entry in (await self._store.list(prefix)).entries:
            try:
                found.append(values.read_instance(entry.key, entry.value))
            except Corrupt:
                continue  # named by the fold of every host
        return tuple(found)


def _key(key: InstanceKey) -> str:
    return keys.instance(key.service, key.node, key.id)
