"""One service's instances in the order of their keys, with what was last said of each. Pure.

A change of one of ten thousand must not cost a look at all of them: asked again is only about those that were touched,
and about those whose state depends on more than their own registration.
"""

from bisect import bisect_left
from collections.abc import Callable, Collection

from registry.model import Endpoint, InstanceKey


class Order:
    """`touch` whom a change is about; `endpoints` asks about them and gives all."""

    def __init__(self) -> None:
        self._keys: list[InstanceKey] = []
        self._shown: list[Endpoint] = []
        self._touched: set[InstanceKey] = set()
        self._doubtful: frozenset[InstanceKey] = frozenset()
        self._all: tuple[Endpoint, ...] = ()

    def touch(self, key: InstanceKey) -> None:
        self._touched.add(key)

    def endpoints(
        self, show: Callable[[InstanceKey], Endpoint | None], doubtful: Collection[InstanceKey]
    ) -> tuple[Endpoint, ...]:
        """`show` says how an instance is seen now, None: it is not in use. It is asked about `doubtful` ones each time,
        and once more when they are no longer. The same objects for whom nothing changed."""
        doubtful = frozenset(doubtful)
        moved = False
        for key in self._touched | doubtful | self._doubtful:
            moved |= self._set(key, show(key))
        self._touched.clear()
        self._doubtful = doubtful
        if moved:
            self._all = tuple(self._shown)
        return self._all

    def _set(self, key: InstanceKey, seen: Endpoint | None) -> bool:
        place = bisect_left(self._keys, key)
        known = place < len(self._keys) and self._keys[place] == key
        if known and seen is None:
            del self._keys[place], self._shown[place]
        elif known and seen is not None and self._shown[place] != seen:
            self._shown[place] = seen
        elif not known and seen is not None:
            self._keys.insert(place, key)
            self._shown.insert(place, seen)
        else:
            return False
        return True
