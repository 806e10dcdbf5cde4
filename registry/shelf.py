"""The current values below one prefix, fed from watches: documents, roots, revocations. Pure.

A value that cannot be read never takes the place of one that could; a put takes force at once. A deletion waits for a
moment (`settle`) and is judged with all others of the last `window` seconds, however they were told: when too much of
the shelf has gone (`brake.documents_held`), or a listing is all of a sudden empty, all of it is held until `adopt`,
and what had been let go of comes back. Deletions that are known to be `meant` go at once and count for nothing.

While the store as a whole is in doubt (`freeze`) nothing is let go of, and where operators' words are kept (`park`)
nothing new is taken in either.
"""

from collections.abc import Callable, Collection, Mapping
from functools import partial
from typing import Generic, TypeVar

from registry import brake, keys
from registry.errors import Corrupt
from registry.store import Batch, Entry, Resync

V = TypeVar("V")
SETTLE = 0.1  # seconds: more than the events of one wave are apart, less than anybody waits for


class Shelf(Generic[V]):
    """`items` by key. `read` raises Corrupt; what it says goes to `problems` under the key. Times in seconds."""

    def __init__(
        self,
        prefix: str,
        read: Callable[[Entry], V],
        problems: dict[str, str],
        *,
        park: bool = False,
        settle: float = 0.0,
    ) -> None:
        self.items: dict[str, V] = {}
        self.held = ""  # why keys that the store no longer lists are kept; empty: none are
        self.unlisted: set[str] = set()  # those keys
        self.left: dict[str, V] = {}  # what was let go of within the window, and nobody has said why
        self.window = brake.WINDOW
        self.settle = settle  # seconds
        self._prefix = prefix
        self._read = read
        self._problems = problems
        self._park = park
        self._frozen = ""
        self._parked: dict[str, Entry] = {}
        self._leaving: dict[str, float] = {}  # of `items`: when they are let go of
        self._deleted: dict[str, float] = {}  # when each deletion of the window was seen

    @property
    def unexplained(self) -> frozenset[str]:
        """Keys that the store has lost, and nobody has said yet that it was meant."""
        return frozenset(self._leaving.keys() | self.unlisted | self.left.keys())

    def next_due(self) -> float | None:
        """When `expire` has something to let go of."""
        return min(self._leaving.values(), default=None)

    def recollect(self, known: Mapping[str, V]) -> None:
        """What was here before a restart: what the first listing lacks of it is judged as if this process had run."""
        self.items = {**known, **self.items}

    # Each of these returns the keys whose values moved.

    def apply(self, event: Batch | Resync, now: float, selector: str = "") -> frozenset[str]:
        """`selector`: what a Resync is the whole truth of: one key, or all below a prefix; empty: the whole shelf."""
        if isinstance(event, Batch):
            return self._leave(event.deletes, now) | self._take(event.puts)
        covers = partial(keys.covers, selector or self._prefix)
        present = {entry.key for entry in event.entries}
        for key in [key for key in self._problems if key.startswith(self._prefix) and covers(key)]:
            if key not in present:
                del self._problems[key]
        self._parked = {key: entry for key, entry in self._parked.items() if key in present or not covers(key)}
        missing = {key for key in self.items.keys() - present if covers(key)}
        stay = present | (self.items.keys() - missing - self._leaving.keys() - self.unlisted)
        if missing and not self._frozen and not stay:
            moved = self._hold(missing | self._leaving.keys(), now)
        else:
            moved = self._leave(missing, now)
        return moved | self._take(event.entries)

    def expire(self, now: float) -> frozenset[str]:
        """Let go of what has settled."""
        for key in [key for key, at in self._deleted.items() if now - at > self.window]:
            del self._deleted[key]
            self.left.pop(key, None)
        due = [key for key, at in self._leaving.items() if at <= now]
        for key in due:
            del self._leaving[key]
            self.left[key] = self.items[key]
            self._deleted.setdefault(key, now)
        return self._drop(due)

    def meant(self, keys: Collection[str]) -> frozenset[str]:
        """Somebody has said that these deletions are on purpose."""
        for key in keys:
            self.left.pop(key, None)
            self._deleted.pop(key, None)
        moved = self._drop([key for key in keys if key in self._leaving or key in self.unlisted])
        self._released()
        return moved

    def believed(self, keys: Collection[str], now: float) -> frozenset[str]:
        """Somebody who sees more has found them to be no wave, so far: let go of them, also out of a hold."""
        found = (self._leaving.keys() | self.unlisted) & set(keys)
        self._leaving |= dict.fromkeys(found, now)
        self.unlisted -= found
        self._released()
        return self.expire(now)

    def hold(self, keys: Collection[str]) -> frozenset[str]:
        """Somebody who sees more has found them to be part of a wave."""
        leaving = self._leaving.keys() & set(keys)
        moved = frozenset(self.left.keys() & set(keys))
        for key in leaving:
            del self._leaving[key]
        for key in moved:
            self.items[key] = self.left.pop(key)
        self.unlisted |= leaving | moved
        if leaving or moved:
            self.held = f"{len(self.unlisted)} keys vanished with many others: kept until adopted"
        return moved

    def freeze(self, reason: str) -> frozenset[str]:
        """The store is in doubt: keep what is here, and what was just let go of, until `thaw` or `adopt`."""
        self._frozen = reason
        moved = self._recover()
        if self.items or self._park:
            self.held = reason
        return moved

    def thaw(self) -> frozenset[str]:
        """The store is the one it was: take in what it wrote meanwhile; what it lacks stays held."""
        self._frozen = ""
        self.held = f"{len(self.unlisted)} keys vanished while the store was in doubt" if self.unlisted else ""
        parked, self._parked = self._parked, {}
        return self._put(parked.values())

    def adopt(self) -> frozenset[str]:
        """Believe the store: let go of what it no longer lists, and take in what it wrote meanwhile."""
        gone = self.unlisted | self._leaving.keys()
        self.left.clear()
        self._deleted.clear()
        self._frozen = self.held = ""
        parked, self._parked = self._parked, {}
        return self._drop(gone) | self._put(parked.values())

    def recall(self, entries: Collection[Entry]) -> frozenset[str]:
        """While frozen: what was known before a restart and is not here counts as no longer listed, and is held."""
        moved = self._put([entry for entry in entries if entry.key not in self.items])
        self.unlisted |= moved - self._parked.keys()
        return moved

    def forget(self, keys: Collection[str]) -> frozenset[str]:
        """Nobody asks for these keys any more, whatever the store says of them."""
        for key in keys:
            self._parked.pop(key, None)
            self._forget_deletion(key)
        moved = self._drop(keys)
        self._released()
        return moved

    def _leave(self, keys: Collection[str], now: float) -> frozenset[str]:
        for key in keys:
            self._parked.pop(key, None)
        known = {key for key in keys if key in self.items and key not in self.unlisted}
        if self._frozen:
            self.unlisted |= known
            return frozenset()
        for key in set(keys) - self.items.keys():
            self._problems.pop(key, None)
        fresh = known - self._leaving.keys()
        self._leaving |= dict.fromkeys(fresh, now + self.settle)
        self._deleted |= dict.fromkeys(fresh, now)
        recent = {key for key, at in self._deleted.items() if now - at <= self.window}
        total = len(self.items.keys() | (self.left.keys() & recent))
        if fresh and brake.documents_held(total, len(recent)):
            return self._hold(self._leaving.keys(), now)
        return self.expire(now)

    def _hold(self, keys: Collection[str], now: float) -> frozenset[str]:
        fresh = set(keys) - self.unlisted
        self._deleted |= dict.fromkeys(fresh - self._leaving.keys(), now)
        self.unlisted |= fresh
        moved = self._recover()
        self.held = f"{len(self.unlisted)} of {len(self.items)} keys vanished at once: kept until adopted"
        return moved

    def _recover(self) -> frozenset[str]:
        """Nothing leaves, and what has left within the window is back."""
        moved = frozenset(self.left)
        self.items |= self.left
        self.unlisted |= moved | self._leaving.keys()
        self.left.clear()
        self._leaving.clear()
        return moved

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
            self._forget_deletion(entry.key)
            try:
                value = self._read(entry)
            except Corrupt as problem:
                self._problems[entry.key] = str(problem)
                continue
            self._problems.pop(entry.key, None)
            if self.items.get(entry.key) != value:
                self.items[entry.key] = value
                moved.add(entry.key)
        self._released()
        return frozenset(moved)

    def _forget_deletion(self, key: str) -> None:
        self.unlisted.discard(key)
        self._leaving.pop(key, None)
        self._deleted.pop(key, None)
        self.left.pop(key, None)

    def _released(self) -> None:
        if not self.unlisted and not self._frozen:
            self.held = ""

    def _drop(self, keys: Collection[str]) -> frozenset[str]:
        moved = set()
        for key in list(keys):
            self._problems.pop(key, None)
            self.unlisted.discard(key)
            self._leaving.pop(key, None)
            if self.items.pop(key, None) is not None:
                moved.add(key)
        return frozenset(moved)
