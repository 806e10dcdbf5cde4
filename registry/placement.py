"""A host's instances in several registries: each where its service's defaults say, moved without a gap.

What an instance is written to: the registries that are named for its service, and those that hold it now, so that no
copy grows old. Taken away is one that is in a registry no longer named, and only when a named one has shown it to
this host: whoever follows both has it all the time. A name that this host does not know keeps everything where it is.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from typing import Any, Protocol, TypeVar

from registry import keys, values
from registry.catalog import KvCatalog
from registry.errors import Corrupt, NotFound, RegistryError, Unavailable
from registry.model import Address, Instance, InstanceKey
from registry.store import Alive, Lost, Resync, Store, WatchEvent

T = TypeVar("T")


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...


class Holding:
    """What one registry holds of this host's instances, from its watches below `services/`."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.instances: dict[InstanceKey, Instance] = {}
        self.listed: set[str] = set()  # selectors
        self.lost: dict[str, str] = {}  # selector -> why contact is lost

    def apply(self, selector: str, event: WatchEvent) -> bool:
        """True when something may have moved, contact included."""
        before = bool(self.lost)
        if isinstance(event, Lost):
            self.lost[selector] = event.reason
            return not before
        self.lost.pop(selector, None)
        back = before and not self.lost
        if isinstance(event, Alive):
            return back
        mine = dict(self.instances)
        if isinstance(event, Resync):
            self.listed.add(selector)
            mine = {key: one for key, one in mine.items() if not _key(key).startswith(selector)}
        else:
            for gone in event.deletes:
                name = keys.parse_instance(gone)
                mine.pop(InstanceKey(*name), None) if name is not None else None
        for entry in event.entries if isinstance(event, Resync) else event.puts:
            mine |= _read(entry.key, entry.value, self._node)
        moved, self.instances = mine != self.instances, mine
        return moved or back

    def shows(self, key: InstanceKey) -> bool:
        """In contact, and listed there as standing."""
        found = self.instances.get(key)
        return not self.lost and found is not None and found.state != "withdrawn"

    def follows(self, key: InstanceKey) -> bool:
        """What is not in `instances` is not there."""
        return any(_key(key).startswith(selector) for selector in self.listed)


class Placement(KvCatalog):
    """A Catalog over several, by name, the home registry's first; `store` is their union, for reads.

    `places` says what a service's defaults name: () for nothing, None while no defaults are known.
    """

    def __init__(self, store: Store, catalogs: Mapping[str, KvCatalog], node: str, log: Log) -> None:
        super().__init__(store)
        self._catalogs = dict(catalogs)
        self._log = log
        self.holdings = {name: Holding(node) for name in catalogs}
        self.places: Callable[[str], tuple[str, ...] | None] = lambda service: ()
        for catalog in self._catalogs.values():
            catalog.on_foreign = self._foreign_moved

    def _foreign_moved(self) -> None:
        self.foreign = frozenset[str]().union(*(catalog.foreign for catalog in self._catalogs.values()))
        self.on_foreign()

    # ---- where --------------------------------------------------------------------------------------------------

    @property
    def home(self) -> str:
        return next(iter(self._catalogs))

    def unknown(self, service: str) -> tuple[str, ...]:
        """Names in the service's defaults that this host has no registry for."""
        return tuple(name for name in self.places(service) or () if name not in self._catalogs)

    def wanted(self, key: InstanceKey) -> tuple[str, ...]:
        """Registries that the instance is to be in."""
        named = self.places(key.service)
        if named is None or self.unknown(key.service):
            kept = [name for name in self._catalogs if key in self.holdings[name].instances or name in (named or ())]
            return tuple(kept) or (self.home,)
        return named or (self.home,)

    def _targets(self, key: InstanceKey) -> list[str]:
        """Where it is written: those in contact, if any is."""
        wanted = self.wanted(key)
        names = [name for name in self._catalogs if name in wanted or key in self.holdings[name].instances]
        return [name for name in names if not self.holdings[name].lost] or names

    # ---- registry.catalog.Catalog ---------------------------------------------------------------------------------

    async def register(self, instance: Instance) -> int:
        """Taken when one registry has taken it; the others follow with `settle`. Raises what the first one said."""
        names = self._targets(instance.key)
        if all(self.holdings[name].lost for name in names):  # a frozen one would hold up everybody: it is put later
            raise Unavailable(f"{instance.key}: {', '.join(names)}: out of contact")
        found = await self._each(names, lambda catalog: catalog.register(instance))
        taken = [one for one in found.values() if isinstance(one, int)]
        if not taken:
            raise next(one for one in found.values() if isinstance(one, RegistryError))
        for name, error in _errors(found):
            self._log.warning("a registry does not take an instance", registry=name, instance=str(instance.key),
                              error=str(error))  # fmt: skip
        return max(taken)

    async def withdraw(self, key: InstanceKey) -> int:
        """Marked wherever it is. Raises NotFound (nowhere), and Unavailable while one that may have it is away."""
        away = [name for name, one in self.holdings.items() if one.lost]
        near = [name for name in self._catalogs if name not in away]
        found = await self._each(near, lambda catalog: catalog.withdraw(key))
        marked = [one for one in found.values() if isinstance(one, int)]
        failed = [f"{name}: {error}" for name, error in _errors(found) if not isinstance(error, NotFound)]
        holding = [name for name in away if key in self.holdings[name].instances or not self.holdings[name].listed]
        failed += [f"{name}: out of contact" for name in holding]
        if failed:
            raise Unavailable(f"{key} is not withdrawn everywhere yet: {'; '.join(failed)}")
        if not marked:
            raise NotFound(f"{key} is not registered")
        return max(marked)

    async def update(self, instance: Instance) -> int:
        found = await self._each(self._targets(instance.key), lambda catalog: catalog.update(instance))
        taken = [one for one in found.values() if isinstance(one, int)]
        if not taken:
            raise next(one for one in found.values() if isinstance(one, RegistryError))
        return max(taken)

    async def remove(self, key: InstanceKey) -> None:
        for catalog in self._catalogs.values():
            await catalog.remove(key)

    def finish(self, key: InstanceKey) -> None:
        for name, catalog in self._catalogs.items():
            found = self.holdings[name].instances.get(key)
            if found is not None and found.state == "withdrawn":
                catalog.finish(key)

    async def adopt(self, instance: Instance, inbound: Address | None) -> None:
        """By the registry that shows it: another tool registered it there."""
        for name, catalog in self._catalogs.items():
            if instance.key in self.holdings[name].instances:
                await catalog.adopt(instance, inbound)

    async def run(self) -> None:
        """What each registry's catalogue runs, for ever."""
        await asyncio.gather(*(catalog.run() for catalog in self._catalogs.values()))

    # ---- moving -------------------------------------------------------------------------------------------------

    async def settle(self, instances: Iterable[Instance]) -> None:
        """Put what is missing in a registry, then take away what has moved. Raises the first error, after all."""
        first: RegistryError | None = None
        for instance in instances:
            try:
                await self._put_missing(instance)
                await self._take_away(instance.key)
            except RegistryError as error:
                first = first or error
        if first is not None:
            raise first

    async def _put_missing(self, instance: Instance) -> None:
        for name in self.wanted(instance.key):
            holding = self.holdings[name]
            known = holding.instances.get(instance.key)
            if holding.lost or not holding.follows(instance.key) or known == instance:
                continue
            await self._catalogs[name].register(instance)
            if known is None:
                self._log.info("registered in", registry=name, instance=str(instance.key))

    async def _take_away(self, key: InstanceKey) -> None:
        wanted = self.wanted(key)
        if self.places(key.service) is None or not any(self.holdings[name].shows(key) for name in wanted):
            return
        for name, holding in self.holdings.items():
            if name in wanted or holding.lost or key not in holding.instances:
                continue
            await self._catalogs[name].remove(key)
            self._log.info("moved out of", registry=name, instance=str(key))

    async def _each(
        self, names: Sequence[str], call: Callable[[KvCatalog], Coroutine[Any, Any, T]]
    ) -> dict[str, T | RegistryError]:
        """The same of several catalogues at once: a slow one holds up no other."""
        found = await asyncio.gather(*(call(self._catalogs[name]) for name in names), return_exceptions=True)
        answers: dict[str, T | RegistryError] = {}
        for name, one in zip(names, found, strict=True):
            if isinstance(one, BaseException) and not isinstance(one, RegistryError):
                raise one
            answers[name] = one
        return answers


def _errors(found: Mapping[str, object]) -> list[tuple[str, RegistryError]]:
    return [(name, one) for name, one in found.items() if isinstance(one, RegistryError)]


def _key(key: InstanceKey) -> str:
    return keys.instance(key.service, key.node, key.id)


def _read(key: str, value: bytes, node: str) -> dict[InstanceKey, Instance]:
    name = keys.parse_instance(key)
    if name is None or name[1] != node:
        return {}
    try:
        return {InstanceKey(*name): values.read_instance(key, value)}
    except Corrupt:
        return {}  # as good as absent: it is written again
