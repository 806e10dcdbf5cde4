"""The current values below one prefix, fed from a watch: documents, hosts, roots, revocations. Pure.

A value that cannot be read never takes the place of one that could, and a listing that has lost nearly everything
is not believed: what it lacks is held until `adopt`.
"""

from collections.abc import Callable, Collection
from typing import Generic, TypeVar

from registry import brake
from registry.errors import Corrupt
from registry.store import Batch, Entry, Resync

V = TypeVar("V")


class Shelf(Generic[V]):
    """`items` by key. `read` raises Corrupt; what it says goes to `problems` under the key."""

    def __init__(self, prefix: str, read: Callable[[Entry], V], problems: dict[str, str]) -> None:
        self.items: dict[str, V] = {}
        self.held = ""  # why keys that the store no longer lists are kept; empty: none are
        self._prefix = prefix
        self._read = read
        self._problems = problems
        self._unlisted: set[str] = set()

    def apply(self, event: Batch | Resync) -> frozenset[str]:
        """Returns the keys whose values moved."""
        if isinstance(event, Batch):
            dropped = self._drop(event.deletes)
            return dropped | self._put(event.puts)
        present = {entry.key for entry in event.entries}
        missing = self.items.keys() - present
        for key in [key for key in self._problems if key.startswith(self._prefix) and key not in present]:
            del self._problems[key]
        fresh = missing - self._unlisted
        if fresh and (not present or brake.documents_held(len(self.items), len(fresh))):
            self._unlisted |= fresh
            self.held = f"{len(fresh)} of {len(self.items)} keys vanished at once: kept until adopted"
            fresh = set()
        return self._drop(fresh) | self._put(event.entries)

    def adopt(self) -> frozenset[str]:
        """Believe the store: let go of what it no longer lists."""
        gone, self.held = self._unlisted, ""
        self._unlisted = set()
        return self._drop(gone)

    def _put(self, entries: Collection[Entry]) -> frozenset[str]:
        moved = set()
        for entry in entries:
            self._unlisted.discard(entry.key)
            try:
                value = self._read(entry)
            except Corrupt as problem:
                self._problems[entry.key] = str(problem)
                continue
            self._problems.pop(entry.key, None)
            if self.items.get(entry.key) != value:
                self.items[entry.key] = value
                moved.add(entry.key)
        if not self._unlisted:
            self.held = ""
        return frozenset(moved)

    def _drop(self, keys: Collection[str]) -> frozenset[str]:
        moved = set()
        for key in keys:
            self._problems.pop(key, None)
            self._unlisted.discard(key)
            if self.items.pop(key, None) is not None:
                moved.add(key)
        return frozenset(moved)
