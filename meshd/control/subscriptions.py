"""What this host follows, and what waits until it is followed: the way from documents back to the watches.

Followed are the services that requests from here may end at, those hosted here, and the documents that may be about
them (`registry.interest`). What is wanted no more is followed for a while longer, so that an upstream that is declared
again does not flap.

A document may lead to services that nobody has listed yet; requests would fail for the moment that this takes. So it
comes into force when their endpoints and documents are known. It waits `HOLD` seconds at most while the store answers
(what cannot be listed, for want of rights, must not keep policy away), and as long as the store is lost: nothing that
is in force then gets worse. A new upstream waits the same way, but never longer than `HOLD`; a new instance of this
host is let in when its intentions are known, however long that takes.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import msgspec

from meshd.control.documents import Documents, Name
from meshd.control.register import Registrar
from policies.schema.kinds import AnyDocument
from policies.select import LEADING, closure
from registry import interest, keys
from registry.change import Change
from registry.fold import Fold
from registry.interest import Interest
from registry.model import Instance
from registry.watch import Watcher

LINGER = 60.0  # seconds that a watch goes on after nobody wants it any more
NEED = 600.0  # seconds that a service stays needed after it was last asked for
HOLD = 10.0  # seconds that something waits at most for what it leads to


@dataclass(frozen=True)
class Followed:
    """What Subscriptions reads, and what it tells what to follow."""

    fold: Fold
    watcher: Watcher
    documents: Documents
    registrar: Registrar


class Subscriptions:
    """`refresh` after anything moved. `begun`: the first configuration was compiled; before, nothing is held back.

    `budget`: how many watches the store should stay below (None: many are cheap); `all_policy`: this host keeps record
    of every document. `clock` in seconds.
    """

    def __init__(
        self, parts: Followed, clock: Callable[[], float], *, all_policy: bool = False, budget: int | None = None
    ) -> None:
        self._parts = parts
        self._clock = clock
        self._all_policy = all_policy
        self._budget = budget
        self._needed: dict[str, float] = {}  # services first asked for later, and until when
        self._ending: dict[str, float] = {}  # selectors that linger, and until when
        self._since: dict[str, float] = {}  # selectors not known yet: since when they could have been
        self._asked: dict[str, float] = {}  # services called from here, and since when
        self._open: frozenset[str] = frozenset()  # of those, what is in force
        self._serving: frozenset[str] = frozenset()  # services here whose instances are in force
        self._leading: dict[Name, AnyDocument] = {}  # what is in force of the kinds that lead to other services
        self._stale = True
        self.interest = Interest()
        self.held: frozenset[Name] = frozenset()  # documents that wait
        self.begun = False
        self.on_change: Callable[[], None] = lambda: None

    # ---- what others ask and say ------------------------------------------------------------------------------------

    def need(self, service: str) -> None:
        """A request here is for a service that nobody has declared: follow it, until it was not asked for for long."""
        if keys.valid_name(service):
            self._needed[service] = self._clock() + NEED
            self.moved()
            self.on_change()

    def moved(self) -> None:
        """Documents, upstreams or instances of this host may be others than before."""
        self._stale = True

    @property
    def wanted(self) -> frozenset[str]:
        """Services to compile for beside declared upstreams."""
        return frozenset(self._needed) & (self._open if self.begun else frozenset(self._needed))

    def documents(self) -> Mapping[Name, AnyDocument]:
        """Those in force."""
        good = self._parts.documents.good
        if not self.held:
            return good
        return {name: one for name, one in good.items() if name[0] not in LEADING} | self._leading

    def local(self) -> tuple[Instance, ...]:
        """This host's instances as far as they may be served, with the upstreams that may be called."""
        local = self._parts.registrar.local
        if not self.begun or (self._open >= _upstreams(local) and self._serving >= _services(local)):
            return local
        return tuple(self._opened(one) for one in local if one.service in self._serving)

    def _opened(self, instance: Instance) -> Instance:
        known = tuple(one for one in instance.mesh.upstreams if one.service in self._open)
        return msgspec.structs.replace(instance, mesh=msgspec.structs.replace(instance.mesh, upstreams=known))

    def next_deadline(self) -> float | None:
        """When `refresh` has something to do without anything having moved."""
        late = (*self._since.values(), *self._late_asked()) if self._waits else ()
        now = self._clock()
        waiting = (end for since in late if (end := since + HOLD) > now)
        return min((*self._ending.values(), *self._needed.values(), *waiting), default=None)

    # ---- deciding ---------------------------------------------------------------------------------------------------

    def refresh(self) -> Change:
        """Follow what is wanted now, and let come into force what is known. Returns what the fold has forgotten."""
        now, due = self._clock(), self.next_deadline()
        if not (self._stale or self._waits or (due is not None and due <= now)):
            return Change()
        change = self._follow(now) if self._stale or (due is not None and due <= now) else Change()
        self._stale = False
        self._watch_late(now)
        self._settle(now)
        return change

    @property
    def _waits(self) -> bool:
        return bool(self.held or self._asked.keys() - self._open or self.interest.hosted - self._serving)

    def _follow(self, now: float) -> Change:
        parts, fold = self._parts, self._parts.fold
        self._needed = {service: until for service, until in self._needed.items() if until > now}
        asked = frozenset(filter(keys.valid_name, _upstreams(parts.registrar.local))) | self._needed.keys()
        self._asked = {service: self._asked.get(service, now) for service in asked}
        self._open &= asked
        called = closure(parts.documents.good, asked) | closure(self._leading, asked)
        self.interest = Interest(called=called, hosted=parts.registrar.hosted, all_policy=self._all_policy)
        wanted = interest.selectors(self.interest, self._budget, fold.wanted)
        for selector in fold.wanted - wanted:
            self._ending.setdefault(selector, now + LINGER)
        self._ending = {one: until for one, until in self._ending.items() if until > now and one not in wanted}
        followed = wanted | self._ending.keys()
        parts.watcher.want(followed)
        return fold.want(followed)

    def _watch_late(self, now: float) -> None:
        """Since when each selector could have been listed: while the store is lost that time does not pass."""
        fold = self._parts.fold
        late = () if fold.usable else (one for one in fold.wanted if not fold.known(one))
        self._since = {one: now if fold.lost else self._since.get(one, now) for one in late}

    def _settle(self, now: float) -> None:
        """Move what is in force towards what is wanted, as far as what it leads to is known."""
        good = self._parts.documents.good
        wanted = {name: one for name, one in good.items() if name[0] in LEADING}
        late = self._late(now)
        if not late or not self.begun:
            self._leading, self.held = wanted, frozenset()
        else:
            self._leading = self._advanced(wanted, late)
            names = wanted.keys() | self._leading.keys()
            self.held = frozenset(name for name in names if wanted.get(name) is not self._leading.get(name))
        fresh = {one: since for one, since in self._asked.items() if one not in self._open}
        ready = {
            one
            for one, since in fresh.items()
            if now - since >= HOLD or closure(self._leading, frozenset((one,))).isdisjoint(late)
        }
        self._open |= ready
        known = self._parts.fold.known
        hosted = self.interest.hosted
        self._serving = (self._serving & hosted) | {
            one for one in hosted - self._serving if all(map(known, interest.hosting(one)))
        }

    def _late(self, now: float) -> frozenset[str]:
        """Called services of which something is not known yet, and may still come to be known."""
        if not self._since:
            return frozenset()
        waiting = {one for one, since in self._since.items() if now - since < HOLD}
        if not waiting:
            return frozenset()
        known = self._parts.fold.known
        return frozenset(
            service
            for service in self.interest.called
            if any(
                not known(one) and not waiting.isdisjoint(keys.selectors_of(one)) for one in interest.calling(service)
            )
        )

    def _advanced(self, wanted: Mapping[Name, AnyDocument], late: frozenset[str]) -> dict[Name, AnyDocument]:
        """What is in force with each change that does not lead to a late service."""
        asked = frozenset(self._asked)
        force = dict(self._leading)
        reached = closure(force, asked)
        for name in sorted(wanted.keys() | force.keys()):
            if wanted.get(name) is force.get(name):
                continue
            trial = {key: one for key, one in force.items() if key != name}
            if name in wanted:
                trial[name] = wanted[name]
            further = closure(trial, asked)
            if late.isdisjoint(further - reached):
                force, reached = trial, further
        return force

    def _late_asked(self) -> tuple[float, ...]:
        return tuple(since for one, since in self._asked.items() if one not in self._open)


def _upstreams(local: tuple[Instance, ...]) -> frozenset[str]:
    return frozenset(one.service for instance in local for one in instance.mesh.upstreams)


def _services(local: tuple[Instance, ...]) -> frozenset[str]:
    return frozenset(one.service for one in local)
