"""The registries beside the home one: contact, leases, and what each holds of this host's instances.

A host keeps its lease in every registry, also in one that holds none of its instances yet: a move must not begin with
a host that looks dead.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from meshd.control.contact import Contact
from meshd.control.documents import Documents
from meshd.control.lease import Lease, Log
from meshd.control.register import Registrar
from policies.schema.service_defaults import ServiceDefaults
from policies.select import Index
from registry import interest, keys
from registry.fold import Fold
from registry.merge import Rule
from registry.model import Node
from registry.placement import Placement
from registry.store import Batch, Lost, Resync, SessionStore, WatchEvent


@dataclass(frozen=True)
class Joined:
    """One registry of this host, the home one among them. `contact` ends its retries' pauses."""

    name: str
    kind: str
    store: SessionStore
    contact: Contact


class Seen(msgspec.Struct, frozen=True):
    """`lost`: why contact is lost, empty: it is not. `heard`: when it last spoke, in seconds of the host's clock."""

    lost: str = ""
    heard: float = -1.0


class Registries:
    """All registries of a host that has several. `on_change`: contact, or what they hold of this host, has moved."""

    def __init__(
        self, joined: tuple[Joined, ...], placement: Placement, rule: Rule, node: str, clock: Callable[[], float]
    ) -> None:
        self.joined = joined
        self.placement = placement
        self.rule = rule
        self._own_lease = keys.lease(node)
        self._clock = clock
        self._lost: dict[tuple[str, str], str] = {}  # (registry, selector): why
        self._heard: dict[str, float] = {}
        self._leases: dict[str, Lease] = {}
        self.last_known: Callable[[str], frozenset[str]] = lambda name: frozenset()  # `<service>/<node>/<id>`
        self.on_change: Callable[[], None] = lambda: None

    def heard(self, name: str, selector: str, event: WatchEvent) -> None:
        """Every event of each registry, before it is merged with the others'."""
        was_lost = bool(self.seen(name).lost)
        if isinstance(event, Lost):
            self._lost[name, selector] = event.reason
        else:
            self._lost.pop((name, selector), None)
            self._heard[name] = self._clock()
        moved = was_lost != bool(self.seen(name).lost)
        if selector.startswith(keys.SERVICES):
            moved |= self.placement.holdings[name].apply(selector, event)
        elif selector.startswith(keys.LEASES):
            self._check_lease(name, event)
        if moved:
            self.on_change()

    def _check_lease(self, name: str, event: WatchEvent) -> None:
        """The merged picture shows this host while any registry has its lease: each is looked at by itself."""
        if isinstance(event, Resync):
            gone = all(entry.key != self._own_lease for entry in event.entries)
        else:
            gone = isinstance(event, Batch) and self._own_lease in event.deletes
        lease = self._leases.get(name)
        if gone and lease is not None and lease.id is not None:
            lease.lost()

    def leases(self, home: Lease, node: Node, ttl: float, run_dir: Path, log: Log) -> Mapping[str, Lease]:
        """One for each further registry, by name; `home` is the host's own in the home registry."""
        further = {
            one.name: Lease(one.store, node, ttl, run_dir / f"lease-{one.name}", log, home=False)
            for one in self.joined[1:]
        }
        self._leases = {self.joined[0].name: home} | further
        return further

    def seen(self, name: str) -> Seen:
        """One registry's contact, as its watches have it."""
        why = next((reason for (one, _), reason in self._lost.items() if one == name), "")
        return Seen(why, self._heard.get(name, -1.0))

    def contacts(self) -> dict[str, str]:
        """For the host's status: by name, why contact is lost."""
        return {one.name: self.seen(one.name).lost for one in self.joined}


@dataclass(frozen=True)
class Parties:
    """What Standing reads: what is followed, the documents in force, and this host's instances."""

    fold: Fold
    documents: Documents
    registrar: Registrar


class Standing:
    """Where this host's instances are to be, and how it stands with its registries, be it one or several."""

    def __init__(self, parties: Parties, home: str, registries: Registries | None) -> None:
        self._parties = parties
        self._home = home
        self._registries = registries
        self._before: dict[str, tuple[str, ...] | None] = {}  # places of the services here, when last asked
        if registries is not None:
            registries.placement.places = self.places
            parties.registrar.settle = registries.placement.settle

    def places(self, service: str) -> tuple[str, ...] | None:
        """As the defaults of a service say; None while nobody knows them, or whether the store is ours."""
        fold = self._parties.fold
        if fold.foreign or not all(map(fold.known, interest.hosting(service))):
            return None
        found = Index(self._parties.documents.good).find(ServiceDefaults, service)
        return found.registries if found is not None else ()

    def moved(self) -> bool:
        """Have the places of this host's services changed since this was last asked?"""
        before, self._before = self._before, {one: self.places(one) for one in self._parties.registrar.hosted}
        return before != self._before

    def contacts(self) -> dict[str, str]:
        """The host's registries by name, each with why contact is lost (empty: it is not)."""
        fold = self._parties.fold
        if self._registries is None:
            return {self._home: fold.lost}
        merged = (keys.SERVICES, keys.LEASES)
        alone = (
            why for one, why in fold.unreachable.items() if not (one.startswith(merged) or why.startswith("Denied"))
        )
        found = self._registries.contacts()
        return found | {self._home: found[self._home] or next(alone, "")}

    def misplaced(self) -> tuple[str, ...]:
        """Services of this host whose defaults name a registry that it does not have, as problems."""
        known = tuple(self.contacts())
        found = []
        for service in sorted({one.service for one in self._parties.registrar.local}):
            unknown = [name for name in self.places(service) or () if name not in known]
            if unknown:
                found.append(
                    f"service-defaults of {service}: this host has no registry {', '.join(unknown)} (it has"
                    f" {', '.join(known)}): its instances stay where they are"
                )
        return tuple(found)
