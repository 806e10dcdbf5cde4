"""SIGHUP: the configuration is read again; what can change while running changes, what cannot is said.

Nothing that holds a socket, a lease or an identity changes here: a restart of meshd takes those over, and interrupts
no traffic. A file that cannot be used changes nothing at all.
"""

import asyncio
import signal
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

import msgspec

from meshd.config import Host, show
from meshd.placed import ConfigError

LIVE = frozenset({"Services", "DrainTimeout", "Proxy.AccessLog"})


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Plan(msgspec.Struct, frozen=True):
    """`host`: what is in force from now on; `changed` and `waiting`: settings by path, and those for the next start."""

    host: Host
    changed: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()


class State(msgspec.Struct, frozen=True):
    """For `status`: settings that wait for the next start, and why the last reading failed (empty: it did not)."""

    waiting: tuple[str, ...] = ()
    problem: str = ""


def plan(running: Host, read: Host) -> Plan:
    """Pure: what of a configuration that was read again takes effect now."""
    before, after = flat(show(running)), flat(show(read))
    differing = sorted(path for path in before.keys() | after.keys() if before.get(path) != after.get(path))
    proxy = msgspec.structs.replace(running.proxy, access_log=read.proxy.access_log)
    host = msgspec.structs.replace(running, services=read.services, drain_timeout=read.drain_timeout, proxy=proxy)
    return Plan(
        host,
        changed=tuple(path for path in differing if path in LIVE),
        waiting=tuple(path for path in differing if path not in LIVE),
    )


def flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, object]:
    """Settings by path (`Ports.Api`)."""
    found: dict[str, object] = {}
    for name, value in tree.items():
        found |= flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return found


class Reloader:
    """`reread` raises ConfigError; `running` is the host in force; `use` puts a plan into force and may raise too."""

    def __init__(
        self,
        reread: Callable[[], Host],
        running: Callable[[], Host],
        use: Callable[[Plan], Awaitable[None]],
        tell: Callable[[str], None],
        log: Log,
    ) -> None:
        self._reread = reread
        self._running = running
        self._use = use
        self._tell = tell
        self._log = log
        self._asked = asyncio.Event()
        self.state = State()

    async def run(self) -> None:
        """Reload on every SIGHUP, for ever."""
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, self._asked.set)
        while True:
            await self._asked.wait()
            self._asked.clear()
            # Both words, or `systemctl reload` waits for its time-out (sd_notify(3), Type=notify-reload).
            self._tell(f"RELOADING=1\nMONOTONIC_USEC={int(loop.time() * 1e6)}")
            await self.reload()
            self._tell("READY=1")

    async def reload(self) -> None:
        """Read and use the configuration once."""
        try:
            read = await asyncio.to_thread(self._reread)
            found = plan(self._running(), read)
            await self._use(found)
        except ConfigError as error:
            self.state = State(self.state.waiting, str(error))
            self._log.error("configuration not reloaded; all stays as it was", faults=list(map(str, error.faults)))
            return
        self.state = State(found.waiting)
        self._log.info("configuration reloaded", changed=found.changed)
        if found.waiting:
            self._log.warning("settings wait for the next start of meshd", settings=found.waiting)
