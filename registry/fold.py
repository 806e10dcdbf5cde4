"""Watch events in, the current picture of the mesh out. Pure: the time is an argument.

roster  instances and leases: who may get traffic
shelf   documents, roots and revocations: current values below a prefix

What cannot be read is named in `problems` and changes nothing else. `architecture.md` section 4 has the table of what
each state of the registry means for traffic; the tests of this file have a test per row.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from registry import brake, keys, store_id, values
from registry.change import Change, Verdict, document_names, moved_on
from registry.errors import Corrupt
from registry.interest import EVERYTHING
from registry.interest import endpoints as endpoints_of
from registry.model import Document, Endpoint, Instance, InstanceKey
from registry.roster import MAX_ORPHAN, MAX_SUSPECT, Roster
from registry.shelf import SETTLE, Shelf
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent


class Fold:
    """Feed it `apply` for every event of a watch of each selector in `wanted`."""

    def __init__(
        self,
        wanted: frozenset[str] = EVERYTHING,
        *,
        max_orphan: float = MAX_ORPHAN,
        max_suspect: float = MAX_SUSPECT,
    ) -> None:
        self.wanted = wanted  # selectors (`registry.interest`); events of others are not taken in
        self.store_id = ""  # as the store shows it
        self.pinned = ""  # the store's id that is believed here; set it to what was known before a restart
        self.foreign = ""  # why the store is not believed; empty: it is
        self.problems: dict[str, str] = {}  # by key: why its value is not in force
        self.last_event: dict[str, float] = {}  # by selector: when the store was last heard
        self.unreachable: dict[str, str] = {}  # by selector: why its watch is without contact
        self.listed: set[str] = set()  # selectors that were listed once
        self.restored: set[str] = set()  # selectors whose values come from a saved snapshot
        self._roster = Roster(max_orphan=max_orphan, max_suspect=max_suspect)
        self._policy = Shelf(keys.POLICY, values.read_document, self.problems, park=True, settle=SETTLE)
        self._config = Shelf(keys.CONFIG, values.read_document, self.problems, park=True, settle=SETTLE)
        self._roots = Shelf(keys.CA_ROOTS, values.opaque(keys.CA_ROOTS), self.problems)
        self._revocations = Shelf(keys.REVOCATIONS, values.opaque(keys.REVOCATIONS), self.problems, settle=SETTLE)

    # ---- the picture --------------------------------------------------------------------------------------------

    @property
    def instances(self) -> Mapping[InstanceKey, Instance]:
        """What the registry last said of each instance, vanished ones too while they may be in use."""
        return self._roster.instances

    @property
    def vanished(self) -> Collection[InstanceKey]:
        """Of `instances`, those whose key is gone although nobody withdrew them."""
        return self._roster.vanished

    @property
    def leases(self) -> Mapping[str, bytes]:
        """By node; what the host wrote into its lease key."""
        return self._roster.leases

    @property
    def documents(self) -> Mapping[tuple[str, str], Document]:
        """By (kind, name), as stored: the text may still be refused by `policies`."""
        shelves = (self._config.items, self._policy.items)
        return {(found.kind, found.name): found for items in shelves for found in items.values()}

    @property
    def roots(self) -> Mapping[str, bytes]:
        return {key.removeprefix(keys.CA_ROOTS): value for key, value in self._roots.items.items()}

    @property
    def revocations(self) -> Mapping[str, bytes]:
        return {key.removeprefix(keys.REVOCATIONS): value for key, value in self._revocations.items.items()}

    @property
    def services(self) -> frozenset[str]:
        """All services with an instance in `instances`."""
        return self._roster.services()

    @property
    def held(self) -> Mapping[str, str]:
        """By prefix: why keys that the store no longer lists are still in force."""
        return {prefix: shelf.held for prefix, shelf in self._shelves.items() if shelf.held}

    @property
    def held_documents(self) -> frozenset[tuple[str, str]]:
        """(kind, name) of documents that are in force although the store does not list them."""
        return document_names(frozenset(self._policy.unlisted | self._config.unlisted))

    @property
    def braked(self) -> Mapping[str, int]:
        """By service: how many instances stay in use, as suspect, because too many vanished at once."""
        return self._roster.braked()

    @property
    def suspects(self) -> Mapping[str, int]:
        """By service: how many instances are in use although nobody vouches for them, braked ones included."""
        return self._roster.suspects()

    def damped(self, now: float) -> Mapping[str, int]:
        """By service: how many instances are held back because they flap."""
        found = {service: len(self._roster.damped(service, now)) for service in self._roster.flaps.services()}
        return {service: count for service, count in found.items() if count}

    @property
    def limits(self) -> brake.Limits:
        """When the brake takes hold; may be set."""
        return self._roster.limits

    @limits.setter
    def limits(self, limits: brake.Limits) -> None:
        self._roster.limits = limits
        for shelf in self._shelves.values():
            shelf.window = limits.window

    @property
    def half_life(self) -> float:
        """Of the penalty for flapping, in seconds; 0: nothing is damped. May be set."""
        return self._roster.flaps.half_life

    @half_life.setter
    def half_life(self, seconds: float) -> None:
        self._roster.flaps.half_life = seconds

    @property
    def unexplained(self) -> Mapping[tuple[str, str], int]:
        """Documents that the store has lost without a word, by (kind, name): the version that was known. Empty while
        the store is in doubt: it cannot explain anything then."""
        if self.foreign:
            return {}
        found: dict[tuple[str, str], int] = {}
        for shelf in (self._policy, self._config):
            for key in shelf.unexplained:
                lost = shelf.items.get(key) or shelf.left[key]
                found[lost.kind, lost.name] = lost.version
        return found

    @property
    def lost(self) -> str:
        """Why contact is lost; empty: it is not. Some watches that are refused for want of rights are no sign of it."""
        every = len(self.unreachable) >= len(self.wanted)
        return next((why for why in self.unreachable.values() if every or not why.startswith("Denied")), "")

    @property
    def complete(self) -> bool:
        """Everything wanted was listed once: what is compiled from here on may replace a configuration."""
        return self.listed >= self.wanted

    @property
    def usable(self) -> bool:
        """Everything wanted was listed, or restored from a saved snapshot."""
        return self.wanted <= self.listed | self.restored

    def known(self, selector: str) -> bool:
        """What the selector speaks of was listed or restored, by itself or by a wider one."""
        return any(one in self.listed or one in self.restored for one in keys.selectors_of(selector))

    def endpoints(self, service: str, now: float) -> tuple[Endpoint, ...]:
        """The service's instances as callers see them now, in the order of their keys."""
        return self._roster.endpoints(service, now, frozen=self._frozen)

    def next_deadline(self, now: float) -> float | None:
        """When `expire` has something to do next (now at the earliest); None: only an event can bring it."""
        ends = (self._roster.flaps.next_end(), None if self._frozen else self._roster.next_end())
        known = [end for end in ends if end is not None]
        return max(now, min(known)) if known else None

    # ---- what moves it ------------------------------------------------------------------------------------------

    def want(self, selectors: frozenset[str]) -> Change:
        """From now on these are followed. What no selector speaks of any more is forgotten."""
        for one in selectors - self.listed:
            if not self.restored.isdisjoint(keys.selectors_of(one)):
                self.restored.add(one)
        self.wanted = selectors
        gone = (self.listed | self.restored | self.unreachable.keys() | self.last_event.keys()) - selectors
        for one in gone:
            self.listed.discard(one)
            self.restored.discard(one)
            self.unreachable.pop(one, None)
            self.last_event.pop(one, None)
        return self._forget() if gone else Change()

    def apply(self, selector: str, event: WatchEvent, now: float) -> Change:
        """Take in one event of the watch of `selector`. Never raises for what the store holds."""
        if selector not in self.wanted:
            return Change()  # of a watch that has ended; its last events were under way
        if isinstance(event, Lost):
            self.unreachable[selector] = event.reason
            return Change()
        self.last_event[selector] = now
        if event.lacking:  # one of several registries: what it last said stays, and nobody vouches for it meanwhile
            self.unreachable[selector] = event.lacking
        else:
            self.unreachable.pop(selector, None)
        if isinstance(event, Alive):
            return Change()
        if isinstance(event, Resync) and not event.lacking:
            self.listed.add(selector)
            self.restored.discard(selector)
        if not self.listed.isdisjoint(keys.wider(selector)):
            return Change()  # a wider watch tells the same in an order of its own: two orders would undo each other
        return self._dispatch(selector, event, now)

    def restore(
        self,
        entries: Mapping[str, tuple[Entry, ...]],
        vanished: Collection[InstanceKey],
        now: float,
        followed: Collection[str] = EVERYTHING,
    ) -> Change:
        """Take in a saved snapshot (`registry.snapshot`) where the store has not been listed yet.

        `followed`: the selectors that it speaks of. It stays in force until the store lists them; what that listing
        lacks has vanished then, as if this process had run all the time. What a store in doubt has listed is completed.
        """
        change = Change()
        self.pinned = self.pinned or _value(entries.get(keys.STORE_ID, ()))
        fresh = {one for one in followed if self.listed.isdisjoint(keys.selectors_of(one))}
        self.restored |= fresh
        for prefix, saved in entries.items():
            new = tuple(one for one in saved if not self._heard(one.key))
            if self.foreign:
                change |= self._recall(prefix, saved, now)
            elif prefix == keys.LEASES and prefix in fresh:
                told = prefix in self.last_event  # by some of several registries
                change |= self._dispatch(prefix, Batch(0, saved) if told else Resync(0, saved), now)
            elif prefix != keys.STORE_ID:
                change |= self._dispatch(prefix, Batch(0, new), now)
        for key in vanished:
            if self.listed.isdisjoint(keys.selectors_of(keys.instance(key.service, key.node, key.id))):
                change |= Change(services=self._roster.vanish(key, now))
        return change

    def _heard(self, key: str) -> bool:
        """Listed by the store, or told by a registry that answers where another one is out of contact."""
        name = keys.parse_instance(key)
        known = name is not None and InstanceKey(*name) in self.instances
        return known or not self.listed.isdisjoint(keys.selectors_of(key))

    def _recall(self, prefix: str, saved: tuple[Entry, ...], now: float) -> Change:
        """What the snapshot knows and a store in doubt has not shown: it counts as vanished, and is held."""
        if prefix == keys.LEASES and prefix not in self.listed:
            return self._dispatch(prefix, Resync(0, saved), now)
        shelf = self._shelves.get(prefix)
        if shelf is not None:
            return moved_on({prefix: shelf.recall(saved)})
        change = Change()
        for entry in saved if prefix == keys.SERVICES else ():
            name = keys.parse_instance(entry.key)
            if name is not None and InstanceKey(*name) not in self.instances:
                change |= Change(services=self._put_instance(entry, now))
                if not self.listed.isdisjoint(keys.selectors_of(entry.key)):
                    self._roster.vanish(InstanceKey(*name), now)
        return change

    def _forget(self) -> Change:
        """Let go of what no selector speaks of, without a word about it."""
        unwanted = {
            prefix: shelf.forget([key for key in shelf.items if self.wanted.isdisjoint(keys.selectors_of(key))])
            for prefix, shelf in self._shelves.items()
        }
        services = {name for name in self.services if self.wanted.isdisjoint((keys.SERVICES, endpoints_of(name)))}
        for name in services:
            self._roster.drop(name)
        for key in [key for key in self.problems if self.wanted.isdisjoint(keys.selectors_of(key))]:
            del self.problems[key]
        return Change(services=frozenset(services)) | moved_on(unwanted)

    def expire(self, now: float) -> Change:
        """Let go of suspects whose time is over, and use those again that are calm; call it at `next_deadline`."""
        over = frozenset[str]() if self._frozen else self._roster.expire(now)
        return Change(services=over | self._roster.calm(now))

    def next_settled(self) -> float | None:
        """When `settle` has something to do next; None: nothing waits."""
        ends = (end for shelf in self._shelves.values() if (end := shelf.next_due()) is not None)
        return min(ends, default=None)

    def settle(self, now: float) -> Change:
        """Let go of deleted documents that nobody has held meanwhile; call it at `next_settled`."""
        return moved_on({prefix: shelf.expire(now) for prefix, shelf in self._shelves.items()})

    def explain(self, verdicts: Mapping[tuple[str, str], Verdict], now: float) -> Change:
        """What others know of deleted documents, by (kind, name). meant: on purpose, gone for good and part of no
        wave; believed: no wave so far; held: part of one. A store in doubt explains nothing."""
        if self.foreign:
            return Change()
        named: dict[Verdict, set[str]] = {"meant": set(), "believed": set(), "held": set()}
        for name, verdict in verdicts.items():
            named[verdict].add(keys.policy(*name))
        moved = {}
        for prefix, shelf in ((keys.POLICY, self._policy), (keys.CONFIG, self._config)):
            moved[prefix] = shelf.meant(named["meant"]) | shelf.hold(named["held"])
            moved[prefix] |= shelf.believed(named["believed"], now)
        return moved_on(moved)

    def recollect(self, documents: Iterable[Document]) -> None:
        """Documents known before a restart: those that the store has lost meanwhile are judged, not forgotten."""
        known = {keys.policy(one.kind, one.name): one for one in documents}
        self._config.recollect({key: one for key, one in known.items() if key.startswith(keys.CONFIG)})
        self._policy.recollect({key: one for key, one in known.items() if key.startswith(keys.POLICY)})

    def await_word(self, seconds: float) -> None:
        """Deleted documents stay in force for so long, for those who see more to say what is to be made of it."""
        self._policy.settle = self._config.settle = seconds

    def adopt(self, now: float) -> Change:
        """An operator says that what vanished was meant to, and that the store is ours: nothing is held any more."""
        self.foreign = ""
        if self.store_id:
            self.pinned = self.store_id
        moved = {prefix: shelf.adopt() for prefix, shelf in self._shelves.items()}
        return Change(services=self._roster.adopt(now)) | moved_on(moved)

    @property
    def _shelves(self) -> Mapping[str, Shelf[Any]]:
        return {
            keys.POLICY: self._policy,
            keys.CONFIG: self._config,
            keys.CA_ROOTS: self._roots,
            keys.REVOCATIONS: self._revocations,
        }

    @property
    def _frozen(self) -> bool:
        """Without contact, or to a store in doubt, nobody can vouch for an instance: doubts do not grow old."""
        if self.foreign:
            return True
        return any(one == keys.LEASES or one.startswith(keys.SERVICES) for one in (*self.unreachable, *self.restored))

    def _dispatch(self, selector: str, event: Batch | Resync, now: float) -> Change:
        if selector.startswith(keys.SERVICES):
            return Change(services=self._apply_services(selector, event, now))
        if selector == keys.LEASES:
            return Change(services=self._apply_leases(event, now))
        if selector == keys.STORE_ID:
            return self._apply_store_id(event, now)
        for prefix, shelf in self._shelves.items():
            if selector.startswith(prefix):
                return moved_on({prefix: shelf.apply(event, now, selector)})
        raise ValueError(f"{selector} is nothing that the fold knows")

    def _apply_services(self, selector: str, event: Batch | Resync, now: float) -> frozenset[str]:
        if isinstance(event, Resync):
            present = {entry.key for entry in event.entries}
            self._forget_problems(selector, present)
            named = (keys.parse_instance(key) for key in present)
            service = selector.removeprefix(keys.SERVICES).rstrip("/")
            moved = self._roster.only({InstanceKey(*name) for name in named if name is not None}, now, service)
            return moved.union(*(self._put_instance(entry, now) for entry in event.entries))
        moved = frozenset[str]()
        for key in event.deletes:
            self.problems.pop(key, None)
            name = keys.parse_instance(key)
            if name is not None:
                moved |= self._roster.vanish(InstanceKey(*name), now)
        return moved.union(*(self._put_instance(entry, now) for entry in event.puts))

    def _put_instance(self, entry: Entry, now: float) -> frozenset[str]:
        try:
            instance = values.read_instance(entry.key, entry.value)
        except Corrupt as problem:
            self.problems[entry.key] = str(problem)
            return frozenset()
        self.problems.pop(entry.key, None)
        return self._roster.put(instance, now)

    def _apply_leases(self, event: Batch | Resync, now: float) -> frozenset[str]:
        if isinstance(event, Resync):
            return self._roster.only_leases(_leases(event.entries), now)
        moved = frozenset[str]()
        for key in event.deletes:
            moved |= self._roster.lease_gone(key.removeprefix(keys.LEASES), now)
        return moved.union(*(self._roster.lease_put(node, value, now) for node, value in _leases(event.puts).items()))

    def _apply_store_id(self, event: Batch | Resync, now: float) -> Change:
        """A store that is wiped, restored or another one is believed again when an operator has adopted it."""
        entries = event.entries if isinstance(event, Resync) else event.puts
        gone = isinstance(event, Resync) or keys.STORE_ID in event.deletes
        found = tuple(entry for entry in entries if entry.key == keys.STORE_ID)
        before = (self.store_id, self.pinned, self.foreign)
        if found or gone:
            self.store_id = _value(found)
        verdict = store_id.judge(self.pinned, self.store_id)
        change = Change()
        if verdict == "first":
            self.pinned = self.store_id
        elif verdict == "adopted":
            change = self.adopt(now)
        elif verdict == "same" and self.foreign:
            self.foreign = ""
            change = moved_on({prefix: shelf.thaw() for prefix, shelf in self._shelves.items()})
        elif verdict != "same":
            self.foreign = store_id.WHY[verdict]
            change = moved_on({prefix: shelf.freeze(self.foreign) for prefix, shelf in self._shelves.items()})
        return change | Change(store=before != (self.store_id, self.pinned, self.foreign))

    def _forget_problems(self, prefix: str, present: set[str]) -> None:
        for key in [key for key in self.problems if key.startswith(prefix) and key not in present]:
            del self.problems[key]


def _value(entries: tuple[Entry, ...]) -> str:
    return entries[0].value.decode("ascii", "replace") if entries else ""


def _leases(entries: tuple[Entry, ...]) -> dict[str, bytes]:
    named = ((keys.parse_name(keys.LEASES, entry.key), entry.value) for entry in entries)
    return {node: value for node, value in named if node is not None}
