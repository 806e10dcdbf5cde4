"""Whose word is it? Events of a registry wait until its store-id is known: a wiped store must not be believed first.

Watches answer in any order. At a start, and after contact was lost, what the others bring waits for the watch of the
store's id, for a short time: one that stays silent or is forbidden must not keep the rest away. Pure.
"""

from registry import keys
from registry.store import Lost, WatchEvent

PATIENCE = 2.0  # seconds; a round trip is enough where the registry is well

Tagged = tuple[str, WatchEvent]


class Gate:
    """`admit` each event; `overdue` at `deadline`. Times in seconds of one clock."""

    def __init__(self) -> None:
        self._unknown = True
        self._waiting: list[Tagged] = []
        self._since = 0.0

    def admit(self, prefix: str, event: WatchEvent, now: float) -> list[Tagged]:
        """The events that may be applied now, in order."""
        if prefix == keys.STORE_ID:
            lost = isinstance(event, Lost)
            self._unknown = lost and not self._forbidden(event)
            return [(prefix, event), *self._released()] if not self._unknown else [(prefix, event)]
        if isinstance(event, Lost) or not self._unknown:
            return [(prefix, event)]
        if not self._waiting:
            self._since = now
        self._waiting.append((prefix, event))
        return self.overdue(now)

    def deadline(self) -> float | None:
        """When what waits has waited long enough; None: nothing does."""
        return self._since + PATIENCE if self._waiting else None

    def overdue(self, now: float) -> list[Tagged]:
        """What has waited long enough; nothing waits any more until contact is lost again."""
        if not self._waiting or now < self._since + PATIENCE:
            return []
        self._unknown = False
        return self._released()

    def _released(self) -> list[Tagged]:
        released, self._waiting = self._waiting, []
        return released

    @staticmethod
    def _forbidden(event: WatchEvent) -> bool:
        return isinstance(event, Lost) and event.reason.startswith("Denied")
