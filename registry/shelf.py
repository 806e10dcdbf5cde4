"""The current values below one prefix, fed from a watch: documents, hosts, roots, revocations. Pure.

A value that cannot be read never takes the place of one that could, and a listing that has lost nearly everything
is not believed: what it lacks is held until `adopt`. While the store as a whole is in doubt (`freeze`) nothing is let
go of, and where operators' words are kept (`park`) nothing new is taken in either.
"""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from registry import brake, keys
from registry.errors import Corrupt
from registry.store import Batch, Entry, Resync

V = TypeVar("V")


class Shelf(Generic[V]):
    """`items` by key. `read` raises Corrupt; what it says goes to `problems` under the key."""

    def __init__(
        self, prefix: str, read: Callable[[Entry], V], problems: dict[str, str], *, park: bool = False
    ) -> None:
        self.items: dict[str, V] = {}
        self.held = ""  # why keys that the store no longer lists are kept; empty: none are
        self.unlisted: set[str] = set()
        self._prefix = prefix
        self._read = read
        self._problems = problems
        self._park = park
        self._frozen = ""
        self._parked: dict[str, Entry] = {}

    def apply(self, event: Batch | Resync, within: str = "") -> frozenset[str]:
        """Returns the keys whose values moved. `within`: the selector that a listing speaks of; empty: all of it."""
        if isinstance(event, Batch):
            return self._leave(event.deletes) | self._take(event.puts)
        within = within or self._prefix
        present = {entry.key for entry in event.entries}
        missing = {key for key in self.items if key not in present and keys.covers(within, key)}
        for key in [key for key in self._problems if keys.covers(within, key) and key not in present]:
            del self._problems[key]
        for key in [key for key in self._parked if keys.covers(within, key) and key not in present]:
            del self._parked[key]
        fresh = missing - self.unlisted
        empty = within == self._prefix and not present
        if fresh and (self._frozen or empty or brake.documents_held(len(self.items), len(fresh))):
            self.unlisted |= fresh
            self.held = self._frozen or f"{len(fresh)} of {len(self.items)} keys vanished at once: kept until adopted"
            fresh = set()
        return self._drop(fresh) | self._take(event.entries)

    def freeze(self, reason: str) -> None:
        """The store is in doubt: keep what is here until `thaw` or `adopt`."""
        self._frozen = reason
        if self.items or self._park:
            self.held = reason

    def thaw(self) -> frozenset[str]:
        """The store is the one it was: take in what it wrote meanwhile; what it lacks stays held."""
        self._frozen = ""
        self.held = f"{len(self.unlisted)} keys vanished while the store was in doubt" if self.unlisted else ""
        parked, self._parked = self._parked, {}
        return self._put(parked.values())

    def adopt(self) -> frozenset[str]:
        """Believe the store: let go of what it no longer lists, and take in what it wrote meanwhile."""
        gone, self.unlisted = self.unlisted, set()
        self._frozen = self.held = ""
        parked, self._parked = self._parked, {}
        return self._drop(gone) | self._put(parked.values())

    def recall(self, entries: Collection[Entry]) -> frozenset[str]:
        """While frozen: what was known before a restart and is not here counts as no longer listed, and is held."""
        moved = self._put([entry for entry in entries if entry.key not in self.items])
        self.unlisted |= moved - self._parked.keys()
        return moved

    def forget(self, gone: Collection[str]) -> frozenset[str]:
        """Nobody asks for these keys any more, whatever the store says of them."""
        for key in gone:
            self._parked.pop(key, None)
        moved = self._drop(gone)
        if not self.unlisted and not self._frozen:
            self.held = ""
        return moved

    def _leave(self, gone: Collection[str]) -> frozenset[str]:
        if not self._frozen:
            return self._drop(gone)
        for key in gone:
            self._parked.pop(key, None)
        self.unlisted |= self.items.keys() & set(gone)
        return frozenset()

    def _take(self, entries: Collection[Entry]) -> frozenset[str]:
        if not (self._frozen and self._park):
            return self._put(entries)
        for entry in entries:
            self.unlisted.discard(entry.key)
            self._parked[entry.key] = entry
        return frozenset()

    def _put(self, entries: Collection[Entry]) -> frozenset[str]:
        moved = set()
        for entry in entries:
            self.unlisted.discard(entry.key)
            try:
                value = self._read(entry)
            except Corrupt as problem:
                self._problems[entry.key] = str(problem)
                continue
            self._problems.pop(entry.key, None)
            if self.items.get(entry.key) != value:
                self.items[entry.key] = value
                moved.add(entry.key)
        if not self.unlisted and not self._frozen:
            self.held = ""
        return frozenset(moved)

    def _drop(self, gone: Collection[str]) -> frozenset[str]:
        moved = set()
        for key in gone:
            self._problems.pop(key, None)
            self.unlisted.discard(key)
            if self.items.pop(key, None) is not None:
                moved.add(key)
        return frozenset(moved)
