"""The authority's own upkeep: its issuer's and this host's certificates, renewed offline with keys on this disk."""

import asyncio
from collections.abc import Callable
from typing import Protocol

from registry.ca import entitlement, files, init, names
from registry.ca.authority import Authority
from registry.errors import RegistryError

LOOK_EVERY = 3600.0  # seconds


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


def recover(layout: files.Layout, node: str, now: float) -> bool:
    """Bring back an authority that slept through its renewals; True: something was renewed. Raises RegistryError."""
    renewed = init.refresh(layout, now)
    held = files.load(layout.node)
    if held.leaf.not_valid_after_utc.timestamp() > now:
        return renewed
    grant = entitlement.decode(held.leaf)
    roles = tuple(role for role in names.ROLES if grant.allows_role(role))
    first = init.First(node, files.load_trust_domain(layout), roles, grant.services)
    init.recover(layout, first, now)
    return True


async def upkeep(layout: files.Layout, authority: Authority, log: Log, now: Callable[[], float]) -> None:
    """Renew the issuer from half its life on, for ever."""
    while True:
        try:
            if await asyncio.to_thread(init.refresh, layout, now()):
                authority.reload()
                log.info("issuer renewed")
        except RegistryError as error:
            log.error("issuer cannot be renewed", error=str(error))
        await asyncio.sleep(LOOK_EVERY)
