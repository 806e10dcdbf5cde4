"""Watch events in, the current picture of the mesh out. Pure: the time is an argument.

roster  instances and leases: who may get traffic
shelf   documents, hosts, roots and revocations: current values below a prefix

What cannot be read is named in `problems` and changes nothing else. `architecture.md` section 4 has the table of what
each state of the registry means for traffic; the tests of this file have a test per row.
"""

from collections.abc import Callable, Collection, Mapping

import msgspec

from registry import keys, values
from registry.errors import Corrupt
from registry.model import Document, Endpoint, Instance, InstanceKey, Node
from registry.roster import MAX_ORPHAN, MAX_SUSPECT, Roster
from registry.shelf import Shelf
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent

WATCHED = (keys.SERVICES, keys.POLICY, keys.CONFIG, keys.LEASES, keys.NODES, keys.CA_ROOTS, keys.REVOCATIONS)
MAX_DOCUMENT = 256 * 1024  # bytes


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one event moved. False when nothing did.

    `services`: endpoints may differ; `documents`: (kind, name); `trust`: roots or revocations; `store`: its identity.
    """

    services: frozenset[str] = frozenset()
    documents: frozenset[tuple[str, str]] = frozenset()
    trust: bool = False
    nodes: bool = False
    store: bool = False

    def __bool__(self) -> bool:
        return bool(self.services or self.documents or self.trust or self.nodes or self.store)

    def __or__(self, other: "Change") -> "Change":
        return Change(
            services=self.services | other.services,
            documents=self.documents | other.documents,
            trust=self.trust or other.trust,
            nodes=self.nodes or other.nodes,
            store=self.store or other.store,
        )


class Fold:
    """Feed it `apply` for every event of a watch of each prefix in `WATCHED` (and of `keys.STORE_ID`)."""

    def __init__(self, *, max_orphan: float = MAX_ORPHAN, max_suspect: float = MAX_SUSPECT) -> None:
        self.store_id = ""
        self.problems: dict[str, str] = {}  # by key: why its value is not in force
        self.last_event: dict[str, float] = {}  # by prefix: when the store was last heard
        self.unreachable: dict[str, str] = {}  # by prefix: why its watch is without contact
        self.listed: set[str] = set()  # prefixes that were listed once
        self.restored: set[str] = set()  # prefixes whose values come from a saved snapshot
        self._roster = Roster(max_orphan=max_orphan, max_suspect=max_suspect)
        self._policy = Shelf(keys.POLICY, _document, self.problems)
        self._config = Shelf(keys.CONFIG, _document, self.problems)
        self._nodes = Shelf(keys.NODES, _node, self.problems)
        self._roots = Shelf(keys.CA_ROOTS, _opaque(keys.CA_ROOTS), self.problems)
        self._revocations = Shelf(keys.REVOCATIONS, _opaque(keys.REVOCATIONS), self.problems)

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
    def nodes(self) -> Mapping[str, Node]:
        return {node.name: node for node in self._nodes.items.values()}

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
        shelves = {
            keys.POLICY: self._policy.held,
            keys.CONFIG: self._config.held,
            keys.NODES: self._nodes.held,
            keys.CA_ROOTS: self._roots.held,
            keys.REVOCATIONS: self._revocations.held,
        }
        return {prefix: reason for prefix, reason in shelves.items() if reason}

    @property
    def complete(self) -> bool:
        """Every watched prefix was listed once: what is compiled from here on may replace a configuration."""
        return self.listed.issuperset(WATCHED)

    @property
    def usable(self) -> bool:
        """Every watched prefix was listed, or restored from a saved snapshot."""
        return (self.listed | self.restored).issuperset(WATCHED)

    def endpoints(self, service: str, now: float) -> tuple[Endpoint, ...]:
        """The service's instances as callers see them now, in the order of their keys."""
        return self._roster.endpoints(service, now, frozen=self._frozen)

    def next_deadline(self, now: float) -> float | None:
        """When `expire` has something to do next (now at the earliest); None: only an event can bring it."""
        end = None if self._frozen else self._roster.next_end()
        return None if end is None else max(now, end)

    # ---- what moves it ------------------------------------------------------------------------------------------

    def apply(self, prefix: str, event: WatchEvent, now: float) -> Change:
        """Take in one event of the watch of `prefix`. Never raises for what the store holds."""
        if isinstance(event, Lost):
            self.unreachable[prefix] = event.reason
            return Change()
        self.last_event[prefix] = now
        self.unreachable.pop(prefix, None)
        if isinstance(event, Alive):
            return Change()
        if isinstance(event, Resync):
            self.listed.add(prefix)
            self.restored.discard(prefix)
        return self._dispatch(prefix, event, now)

    def restore(
        self, entries: Mapping[str, tuple[Entry, ...]], vanished: Collection[InstanceKey], now: float
    ) -> Change:
        """Take in a saved snapshot (`registry.snapshot`) where the store has not been listed yet.

        It stays in force until the store lists the prefix; what that listing lacks has vanished then, as if this
        process had run all the time.
        """
        change = Change()
        for prefix in WATCHED:
            if prefix not in self.listed:
                self.restored.add(prefix)
                change |= self._dispatch(prefix, Resync(0, entries.get(prefix, ())), now)
        if keys.SERVICES in self.restored:
            for key in vanished:
                change |= Change(services=self._roster.vanish(key, now))
        return change

    def expire(self, now: float) -> Change:
        """Let go of suspects whose time is over; call it at `next_deadline`."""
        return Change() if self._frozen else Change(services=self._roster.expire(now))

    def adopt(self) -> Change:
        """An operator says that what vanished was meant to: nothing is held any more."""
        documents = self._policy.adopt() | self._config.adopt()
        trust = self._roots.adopt() | self._revocations.adopt()
        return Change(documents=_document_names(documents), trust=bool(trust), nodes=bool(self._nodes.adopt()))

    @property
    def _frozen(self) -> bool:
        """Out of contact nobody can vouch for an instance: doubts that are there do not grow old."""
        vouching = {keys.SERVICES, keys.LEASES}
        return not vouching.isdisjoint(self.unreachable.keys() | self.restored)

    def _dispatch(self, prefix: str, event: Batch | Resync, now: float) -> Change:
        if prefix == keys.SERVICES:
            return Change(services=self._apply_services(event, now))
        if prefix == keys.LEASES:
            return Change(services=self._apply_leases(event, now))
        if prefix == keys.POLICY:
            return Change(documents=_document_names(self._policy.apply(event)))
        if prefix == keys.CONFIG:
            return Change(documents=_document_names(self._config.apply(event)))
        if prefix == keys.NODES:
            return Change(nodes=bool(self._nodes.apply(event)))
        if prefix == keys.CA_ROOTS:
            return Change(trust=bool(self._roots.apply(event)))
        if prefix == keys.REVOCATIONS:
            return Change(trust=bool(self._revocations.apply(event)))
        if prefix == keys.STORE_ID:
            return Change(store=self._apply_store_id(event))
        raise ValueError(f"{prefix} is not a prefix that the fold knows")

    def _apply_services(self, event: Batch | Resync, now: float) -> frozenset[str]:
        if isinstance(event, Resync):
            present = {entry.key for entry in event.entries}
            self._forget_problems(keys.SERVICES, present)
            named = (keys.parse_instance(key) for key in present)
            moved = self._roster.only({InstanceKey(*name) for name in named if name is not None}, now)
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
        return moved.union(*(self._roster.lease_put(node, value) for node, value in _leases(event.puts).items()))

    def _apply_store_id(self, event: Batch | Resync) -> bool:
        """An absent store id changes nothing here: a wiped store has none, and is not to be believed."""
        found = event.puts if isinstance(event, Batch) else event.entries
        before = self.store_id
        for entry in found:
            if entry.key == keys.STORE_ID:
                self.store_id = entry.value.decode("ascii", "replace")
        return self.store_id != before

    def _forget_problems(self, prefix: str, present: set[str]) -> None:
        for key in [key for key in self.problems if key.startswith(prefix) and key not in present]:
            del self.problems[key]


def _document(entry: Entry) -> Document:
    name = keys.parse_policy(entry.key)
    if name is None:
        raise Corrupt(f"{entry.key}: is no document's key: policy/<kind>/<name> or config/mesh")
    if len(entry.value) > MAX_DOCUMENT:
        raise Corrupt(f"{entry.key}: {len(entry.value)} bytes, {MAX_DOCUMENT} at most")
    return Document(kind=name[0], name=name[1], text=entry.value, version=entry.version)


def _node(entry: Entry) -> Node:
    return values.read_node(entry.key, entry.value)


def _opaque(prefix: str) -> Callable[[Entry], bytes]:
    """Reads values that mean nothing here, below keys of one name."""

    def read(entry: Entry) -> bytes:
        if keys.parse_name(prefix, entry.key) is None:
            raise Corrupt(f"{entry.key}: is not {prefix}<id>")
        return entry.value

    return read


def _leases(entries: tuple[Entry, ...]) -> dict[str, bytes]:
    named = ((keys.parse_name(keys.LEASES, entry.key), entry.value) for entry in entries)
    return {node: value for node, value in named if node is not None}


def _document_names(moved: frozenset[str]) -> frozenset[tuple[str, str]]:
    names = (keys.parse_policy(key) for key in moved)
    return frozenset(name for name in names if name is not None)
