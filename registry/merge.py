"""One picture of several registries: their watch events in, the events of one store out. Pure.

What counts for a key that several know, and for one that none of those in contact knows, is `chosen`. A registry out
of contact keeps what it last said, and every event names it in `lacking` until it is heard again. The merged index is
a number of this picture alone: at least the sum of the registries' own, and it only grows.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Literal

import msgspec

from registry import keys
from registry.model import ADOPTED
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent

Rule = Literal["union", "priority"]


class Said(msgspec.Struct, frozen=True):
    """What merging needs of an instance's document; anything else (a lease, what cannot be read) stands as it is."""

    State: str = "active"
    Inbound: msgspec.Raw = msgspec.Raw()
    Meta: dict[str, str] = {}

    @property
    def ours(self) -> bool:
        """Registered by a meshd, which puts it where the service's defaults say."""
        return bool(bytes(self.Inbound)) and ADOPTED not in self.Meta


class Copy(msgspec.Struct, frozen=True):
    """One registry's entry; `fresh`: that registry is in contact."""

    entry: Entry
    fresh: bool

    @property
    def said(self) -> Said:
        return said(self.entry)


_SAID = msgspec.json.Decoder(Said)


def said(entry: Entry) -> Said:
    """Never fails: what is no instance is taken as a plain, standing one."""
    try:
        return _SAID.decode(entry.value) if entry.key.startswith(keys.SERVICES) else Said()
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Said()


def chosen(copies: Sequence[Copy]) -> Copy | None:
    """The copy that counts, of those of one key in the order of the registries.

    1. A registry in contact is believed before one that is not: what that said last may be old.
    2. Withdrawn in one and standing in another is a move, so it stands. Withdrawn in all is withdrawn.
    3. Of those that stand the first, unless one says maintenance: nobody lifts that by not knowing of it.
    """
    if len(copies) < 2:
        return copies[0] if copies else None
    words = [(copy, copy.said.State) for copy in copies]
    fresh = [(copy, state) for copy, state in words if copy.fresh] or words
    standing = [(copy, state) for copy, state in fresh if state != "withdrawn"]
    if not standing:
        return fresh[0][0]
    kept = [copy for copy, state in (*standing, *words) if state == "maintenance"]
    return (kept or [standing[0][0]])[0]


class _Registry:
    """What one registry has said. `overruled`: keys withdrawn elsewhere since contact to it was lost."""

    def __init__(self) -> None:
        self.entries: dict[str, Entry] = {}
        self.index = 0
        self.origin: int | None = None  # its index when it was first heard
        self.listed = False
        self.lost = ""
        self.overruled: set[str] = set()

    def take(self, event: Batch | Resync | Alive) -> set[str]:
        """Returns the keys that may have moved."""
        touched = set(self.entries) if self.lost else set()
        self.lost = ""
        self.overruled.clear()
        self.index = event.index
        self.origin = event.index if self.origin is None else self.origin
        if isinstance(event, Resync):
            touched |= self.entries.keys()
            self.entries = {entry.key: entry for entry in event.entries}
            self.listed = True
            touched |= self.entries.keys()
        elif isinstance(event, Batch):
            for key in event.deletes:
                self.entries.pop(key, None)
            self.entries.update((entry.key, entry) for entry in event.puts)
            touched.update(event.deletes, (entry.key for entry in event.puts))
        return touched


class Merge:
    """`names` in order of precedence. Feed it every event of each registry's watch of one selector.

    `union`: all that any knows. `priority`: of a service that an earlier registry lists, what other tools registered
    in later ones does not count; what the mesh registered always does, or a service could not move.
    """

    def __init__(self, names: Iterable[str], rule: Rule = "union") -> None:
        self._registries = {name: _Registry() for name in names}
        self._rule = rule
        self._shown: dict[str, Entry] = {}
        self._by_service: dict[str, set[str]] = {}  # keys that any registry holds; for `priority` alone
        self._moved: set[str] = set()  # since the last event that was given
        self._begun = self._whole = self._silent = False
        self.index = 0

    @property
    def entries(self) -> Mapping[str, Entry]:
        """The merged picture, by key."""
        return self._shown

    def known(self, name: str) -> Mapping[str, Entry]:
        """What one registry last said."""
        return self._registries[name].entries

    def lost(self, name: str) -> str:
        """Why one registry is out of contact; empty: it is not."""
        return self._registries[name].lost

    def take(self, name: str, event: WatchEvent) -> None:
        """As `apply`, when only `entries` is wanted."""
        for _ in self.apply(name, event):
            continue

    def apply(self, name: str, event: WatchEvent) -> Iterator[WatchEvent]:
        """The events that follow from one registry's. Nothing happens before they are asked for."""
        registry = self._registries[name]
        if isinstance(event, Lost):
            registry.lost = event.reason or "out of contact"
            self._moved |= registry.entries.keys()
        else:
            self._moved |= registry.take(event)
            self._note(self._moved)
        if all(one.lost for one in self._registries.values()):
            if not self._silent:
                self._silent = True
                yield Lost(self._lacking())
            return
        if self._begun or all(one.listed or one.lost for one in self._registries.values()):
            self._silent = False
            yield self._tell()

    def _tell(self) -> WatchEvent:
        lacking = self._lacking()
        changed = self._recount()
        first, *others = self._registries.values()
        total = first.index + sum(one.index - (one.origin or 0) for one in others)
        self.index = max(total, self.index + 1 if changed else self.index)
        self._show(changed)
        listing = not self._begun or not (self._whole or lacking)
        self._begun, self._whole = True, self._whole or not lacking
        if listing:
            return Resync(self.index, tuple(self._shown[key] for key in sorted(self._shown)), lacking)
        puts = tuple(self._shown[key] for key, entry in changed.items() if entry is not None)
        deletes = tuple(key for key, entry in changed.items() if entry is None)
        return Batch(self.index, puts, deletes, lacking) if changed else Alive(self.index, lacking)

    def _recount(self) -> dict[str, Entry | None]:
        """What differs from what was shown; None: it is gone."""
        touched, self._moved = self._moved, set()
        changed: dict[str, Entry | None] = {}
        for key in sorted(self._affected(touched)):
            found, before = self._count(key), self._shown.get(key)
            if found is None and before is not None:
                changed[key] = None
            elif found is not None and (before is None or before.value != found.value):
                changed[key] = found
        return changed

    def _show(self, changed: dict[str, Entry | None]) -> None:
        for key, entry in changed.items():
            if entry is None:
                del self._shown[key]
                continue
            created = min(entry.created, self.index)
            self._shown[key] = changed[key] = msgspec.structs.replace(entry, version=self.index, created=created)

    def _count(self, key: str) -> Entry | None:
        """What counts for one key now."""
        copies = [
            Copy(entry, not one.lost)
            for one in self._registries.values()
            if (entry := one.entries.get(key)) is not None and key not in one.overruled
        ]
        found = chosen(copies)
        if found is None or (self._rule == "priority" and self._outranked(key, found)):
            return None
        stale = [one for one in self._registries.values() if one.lost and key in one.entries]
        if stale and found.fresh and found.said.State == "withdrawn":
            # the host's own word, newer than what a registry out of contact last said: that must not bring it back
            for one in stale:
                one.overruled.add(key)
        return found.entry

    # ---- priority ---------------------------------------------------------------------------------------------------

    def _outranked(self, key: str, found: Copy) -> bool:
        service = _service(key)
        if not service or found.said.ours:
            return False
        for one in self._registries.values():
            if key in one.entries:
                return False
            if any(other in one.entries for other in self._by_service.get(service, ())):
                return True
        return False

    def _note(self, touched: Collection[str]) -> None:
        if self._rule != "priority":
            return
        for key in filter(_service, touched):
            known = self._by_service.setdefault(_service(key), set())
            if any(key in one.entries for one in self._registries.values()):
                known.add(key)
            else:
                known.discard(key)

    def _affected(self, touched: set[str]) -> set[str]:
        if self._rule != "priority":
            return touched
        return touched.union(*(self._by_service.get(service, set()) for service in set(map(_service, touched))))

    def _lacking(self) -> str:
        return "; ".join(f"{name}: {one.lost}" for name, one in self._registries.items() if one.lost)


def _service(key: str) -> str:
    return key.removeprefix(keys.SERVICES).partition("/")[0] if key.startswith(keys.SERVICES) else ""
