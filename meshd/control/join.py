"""The first start of a host: from a one-time token to a node certificate on disk.

A host that has an identity never joins again: the token file may stay where it is, its token is worthless then.
"""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from meshd.config import Host
from meshd.placed import ConfigError, Fault
from registry.ca import client, files, rotation, svid
from registry.errors import Corrupt, Denied, NotFound, RegistryError, Unavailable


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...


async def ensure(host: Host, log: Log, now: Callable[[], float], chance: Callable[[], float]) -> svid.Svid:
    """This host's identity: from disk, else by joining; waits while no authority answers.

    Raises ConfigError when there is nothing to join with, the token is refused, or what is on disk is another host's.
    """
    layout = files.Layout(host.data)
    found = _on_disk(layout)
    if found is None:
        found = await _join(host, layout, log, now, chance)
    if found.identity.node != host.node:
        raise ConfigError(
            Fault(
                "Node",
                f"is {host.node}, but the certificate in {layout.identity} is {found.identity.node}'s",
                "the join token names the host: set Node to it, or join with a token for this name",
            )
        )
    return found


def _on_disk(layout: files.Layout) -> svid.Svid | None:
    if not layout.node.certificate.exists():
        return None
    try:
        held = files.load(layout.node)
        return svid.read(held.leaf, files.load_trust_domain(layout))
    except (RegistryError, svid.BadSvid) as error:
        raise ConfigError(Fault(str(layout.identity), f"identity cannot be used: {error}")) from error


async def _join(
    host: Host, layout: files.Layout, log: Log, now: Callable[[], float], chance: Callable[[], float]
) -> svid.Svid:
    if not host.join.address:
        raise ConfigError(
            Fault(
                str(layout.identity),
                "this host has no identity yet",
                "`meshctl ca init` makes the first one; others set Join{Address, TokenFile, RootHash}",
            )
        )
    try:
        token = await asyncio.to_thread(Path(host.join.token_file).read_text)
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Fault("Join.TokenFile", f"cannot be read: {error}")) from error
    granted = await _ask(host, token.strip(), log, now, chance)
    await asyncio.to_thread(_save, layout, granted)
    log.info("joined", identity=granted.svid.identity.uri, trust_domain=granted.trust_domain)
    return granted.svid


async def _ask(
    host: Host, token: str, log: Log, now: Callable[[], float], chance: Callable[[], float]
) -> client.Granted:
    attempt = 0
    while True:
        try:
            return await client.join([host.join.address], token, host.join.root_hash, now)
        except (Denied, Corrupt, NotFound) as error:
            raise ConfigError(Fault("Join", f"refused: {error}")) from error
        except Unavailable as error:
            attempt += 1
            log.warning("no authority answers; this host waits to join", error=str(error), attempt=attempt)
            await asyncio.sleep(min(10.0, rotation.retry_in(attempt, chance())))


def _save(layout: files.Layout, granted: client.Granted) -> None:
    """Trust first: a certificate without the roots that it leads to would be no identity."""
    files.save_trust(layout, granted.roots, granted.trust_domain)
    files.save(layout.node, granted.credentials)
