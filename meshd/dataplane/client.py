"""Keeps the proxy at what is wanted: the difference by digest, one Update at a time.

A proxy that was running before says in its Hello what it holds, so re-attaching sends only what differs. A refused
resource is left out and the rest sent again; it stays at its last accepted version and is reported, and is not tried
again until it changes. Trust travels alone and first: nothing else can block a revocation.
"""

import asyncio
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from meshd.dataplane import frames
from meshd.dataplane.frames import Encoded
from meshd.dataplane.link import Link
from policies.compiled import AnyResource, Applied, Config, Drain, Rejected, Stats
from policies.span import moved

TRUST = "trust/trust"


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Refusal(msgspec.Struct, frozen=True):
    """A resource that the proxy did not take; `digest` of the refused version."""

    resource: str
    digest: str
    path: str
    reason: str


class Change(msgspec.Struct, frozen=True):
    """What one Update would do. `full`: everything not put is deleted."""

    put: tuple[Encoded, ...]
    delete: tuple[str, ...]
    full: bool

    @property
    def empty(self) -> bool:
        return not self.put and not self.delete


def difference(
    wanted: Mapping[str, Encoded | None], held: Mapping[str, str], refused: Mapping[str, Refusal], *, fresh: bool
) -> Change:
    """From what the proxy holds (digest by id) to what is wanted, for the ids of `wanted`; None: it is to go.

    `fresh`: the proxy has never been configured.
    """
    put = tuple(
        one
        for one in wanted.values()
        if one is not None
        and held.get(one.id) != one.digest
        and not (one.id in refused and refused[one.id].digest == one.digest)
    )
    # A refused resource that was accepted once stays at that version: it is still wanted.
    delete = tuple(name for name, one in wanted.items() if one is None and name in held and name != TRUST)
    return Change(put, delete, full=fresh)


class Dataplane:
    """Wanted state in (`want`), Updates out. `on_applied(version)` when a wanted version is in force."""

    def __init__(self, log: Log, on_applied: Callable[[int], None]) -> None:
        self._log = log
        self._on_applied = on_applied
        self._resources: tuple[AnyResource, ...] | None = None
        self._wanted: dict[str, Encoded] = {}
        self._stale: dict[str, None] = {}  # ids of which the proxy may hold something else
        self._version = 0
        self._dirty = asyncio.Event()
        self._held: dict[str, str] = {}
        self._update = 0
        self.link: Link | None = None
        self.applied = 0  # the wanted version in force
        self.refused: dict[str, Refusal] = {}
        self.reload_ok = True
        self.on_attach: Callable[[], None] = lambda: None

    @property
    def in_force(self) -> bool:
        """The proxy that is attached serves from a configuration of ours, or of the meshd before."""
        return self.link is not None and (self.applied > 0 or bool(self.link.hello.holds))

    @property
    def update(self) -> int:
        """Number of the last Update that was applied or refused."""
        return self._update

    def attach(self, link: Link) -> None:
        self.link = link
        self._held = dict(link.hello.holds)
        self._stale = dict.fromkeys((*self._held, *self._wanted))
        self.refused.clear()
        self.applied = 0
        self._dirty.set()
        self.on_attach()

    def detach(self) -> None:
        self.link = None
        self.applied = 0

    def want(self, version: int, resources: tuple[AnyResource, ...]) -> None:
        """Replace what is wanted. `version` grows with each call; the same objects are not looked at again."""
        left, came = moved(self._resources or (), resources)
        for resource in left:
            name = frames.name(resource)
            self._wanted.pop(name, None)
            self._stale[name] = None
        for resource in came:
            encoded = frames.encode_resource(resource)
            self._wanted[encoded.id] = encoded
            self._stale[encoded.id] = None
        self._resources = resources
        self._version = version
        self._dirty.set()

    async def run(self) -> None:
        """Push whenever something differs; one Update is under way at a time."""
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            link = self.link
            if link is None or self._resources is None:
                continue
            try:
                await self._push(link, self._version)
            except frames.Broken as error:
                self._log.error("proxy does not answer", error=str(error))
                link.close()  # the supervisor dials again or starts another one

    async def _push(self, link: Link, version: int) -> None:
        fresh = not self._held
        wanted = {name: self._wanted.get(name) for name in self._stale}
        self._stale = {}  # should this fail, whoever attaches next makes everything stale
        self.refused = {name: one for name, one in self.refused.items() if name == TRUST or name in self._wanted}
        # Never part of a full update: the roots must be there before the first identity is used.
        trust = {TRUST: wanted.pop(TRUST)} if TRUST in wanted else {}
        await self._send_all(link, lambda: difference(trust, self._held, self.refused, fresh=False))
        await self._send_all(link, lambda: difference(wanted, self._held, self.refused, fresh=fresh))
        if self.link is link:
            self.reload_ok = not self.refused
            self.applied = version
            self._on_applied(version)

    async def _send_all(self, link: Link, change: Callable[[], Change]) -> None:
        """Send, and send again without what was refused, until nothing is left. Ends: each round refuses one more."""
        while not (now := change()).empty:
            self._update += 1
            answer = await link.update(self._update, frames.encode_update(self._update, now.put, now.delete, now.full))
            if isinstance(answer, Applied):
                self._accept(now)
                return
            if not self._refuse(answer, now.put):
                return

    def _accept(self, change: Change) -> None:
        if change.full:
            self._held = {TRUST: self._held[TRUST]} if TRUST in self._held else {}
        for name in change.delete:
            self._held.pop(name, None)
        for one in change.put:
            self._held[one.id] = one.digest
            self.refused.pop(one.id, None)

    def _refuse(self, answer: Rejected, put: tuple[Encoded, ...]) -> bool:
        """Note what is refused; False when nothing can be left out (the update as such was refused)."""
        self._log.error("proxy refused", resource=answer.resource, path=answer.path, reason=answer.reason)
        named = [one for one in put if one.id == answer.resource]
        for one in named or put:
            self.refused[one.id] = Refusal(one.id, one.digest, answer.path, answer.reason)
        return bool(named)

    # ---- what others ask of the proxy -----------------------------------------------------------------------------

    async def scrape(self) -> Stats | None:
        """Totals as of now; None without a proxy."""
        return await self.link.scrape() if self.link else None

    async def dump(self) -> Config | None:
        return await self.link.dump() if self.link else None

    async def drain(self, scope: Drain) -> None:
        if self.link is not None:
            await self.link.drain(scope)
