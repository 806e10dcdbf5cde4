"""Services that other tools registered on this host: with its mTLS and their sidecar's upstreams, if it is entitled.

Only registries that keep other tools' services have any (Consul with a local agent). What is adopted stays the other
tool's: it is never withdrawn or deregistered here, and let go again when the host stops.
"""

import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from registry.catalog import Catalog
from registry.errors import Denied, RegistryError
from registry.model import Address, Instance, InstanceKey


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...


class Adoption:
    """`inbound`: where this host's proxy takes mTLS. `entitled`: may this host serve a service?"""

    def __init__(self, catalog: Catalog, inbound: Address, entitled: Callable[[str], bool], log: Log) -> None:
        self._catalog = catalog
        self._inbound = inbound
        self._entitled = entitled
        self._log = log
        self._refused: set[InstanceKey] = set()

    async def take_in(self, stored: Mapping[InstanceKey, Instance]) -> None:
        """Adopt what is not yet, of this node's instances in the registry. Raises Unavailable."""
        for key, instance in stored.items():
            foreign = instance.adopted or instance.inbound is None
            if not foreign or instance.inbound == self._inbound or not self._entitled(key.service):
                continue
            try:
                await self._catalog.adopt(instance, self._inbound)
            except Denied as error:
                if key not in self._refused:
                    self._log.warning("not taken into the mesh", instance=str(key), error=str(error))
                self._refused.add(key)

    async def let_go(self, stored: Mapping[InstanceKey, Instance]) -> None:
        """This host stops: they stay for those who call them without the mesh."""
        for instance in stored.values():
            if instance.adopted:
                with contextlib.suppress(RegistryError):
                    await self._catalog.adopt(instance, None)
