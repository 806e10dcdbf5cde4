"""Leaving on purpose: withdraw, wait until callers have gone elsewhere, then let the proxy finish.

Every step has a bound: a registry that is away, a caller that never stops and a proxy that hangs cost seconds, not
the operator's patience.
"""

import asyncio
import contextlib
from collections.abc import Callable

from meshd.config import Host
from meshd.control.register import Registrar
from meshd.dataplane.client import Dataplane
from meshd.dataplane.frames import Broken
from meshd.dataplane.supervise import Supervisor
from policies.compiled import Stats

WITHDRAW_WITHIN = 3.0  # seconds for the registry to take the withdrawals
LOOK_EVERY = 0.25
QUIET = 3  # looks without a new request: callers have seen the withdrawal
PROXY_LEAST = 1.0  # seconds that the proxy has in any case


class Drainer:
    """One drain. `clock` in seconds."""

    def __init__(
        self,
        host: Host,
        registrar: Registrar,
        dataplane: Dataplane,
        supervisor: Supervisor,
        clock: Callable[[], float],
    ) -> None:
        self._host = host
        self._registrar = registrar
        self._dataplane = dataplane
        self._supervisor = supervisor
        self._clock = clock

    async def run(self) -> None:
        bound = float(self._host.drain_timeout)
        end = self._clock() + bound
        instances = self._registrar.local
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(WITHDRAW_WITHIN, bound)):
                await self._registrar.withdraw_all()
        if instances:
            patience = min(bound, max(one.mesh.drain_timeout for one in instances))
            with contextlib.suppress(TimeoutError, Broken):
                async with asyncio.timeout(patience):
                    await self._quiet()
        await self._supervisor.drain(max(PROXY_LEAST, end - self._clock()))

    async def _quiet(self) -> None:
        """Until no new request has come in from other hosts for a while."""
        before, quiet = -1, 0
        while quiet < QUIET:
            stats = await self._dataplane.scrape()
            if stats is None:
                return
            seen = arrivals(stats)
            quiet = quiet + 1 if seen == before else 0
            before = seen
            await asyncio.sleep(LOOK_EVERY)


def arrivals(stats: Stats) -> int:
    """Requests and TCP connections that came in for local instances, ever."""
    requests = sum(one.count for one in stats.requests if one.reporter == "destination")
    return requests + sum(one.opened for one in stats.tcp if one.reporter == "destination")
