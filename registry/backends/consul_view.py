"""What a watch over blocking queries knows, and what an answer changes in it. Decides only.

An answer of a blocking query only says that something may have changed, so each is a whole listing and is compared
with the one before. https://developer.hashicorp.com/consul/api-docs/features/blocking
"""

from collections.abc import Sequence

from registry.store import Alive, Batch, Entry, Resync, WatchEvent


class View:
    """`ask`: the index that the next query waits behind, 0: it does not wait."""

    def __init__(self, after: int | None) -> None:
        self.ask = 0
        self._after = after  # until the first answer: what the caller says that it has
        self._known: dict[str, tuple[int, int]] | None = None  # (created, version) by key
        self._index = 0

    def forget_index(self) -> None:
        """After an error: ask anew, without waiting."""
        self.ask = 0

    def take(self, index: int, entries: Sequence[Entry], *, lost: bool) -> WatchEvent | None:
        """The event that an answer is. None: ask again without an index."""
        if self._known is not None and index < self._index and self.ask:
            self.ask = 0  # the store was restored or wiped: what it says now is read without waiting
            return None
        before, last = self._known, self._index
        self._known = {entry.key: (entry.created, entry.version) for entry in entries}
        self._index = self.ask = index
        if before is None:
            resumed = self._after is not None and index == self._after
            return Alive(index) if resumed else Resync(index, tuple(entries))  # also a sign of life to who resumes
        puts = [entry for entry in entries if before.get(entry.key) != (entry.created, entry.version)]
        deletes = tuple(key for key in before if key not in self._known)
        if index < last or ((puts or deletes) and (lost or index == last)):
            return Resync(index, tuple(entries))
        if not puts and not deletes:
            return Alive(index)
        return Batch(index, tuple(sorted(puts, key=lambda entry: entry.version)), deletes)
