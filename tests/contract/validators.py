"""What a watch promises, one validator per word. Each fails with the event that broke the promise.

`Truth` is what was written; a validator compares what was delivered with it.
"""

import asyncio
from collections.abc import Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from itertools import pairwise

from registry.store import Alive, Batch, Lost, Resync, Store, Watch, WatchEvent

PATIENCE = 20.0  # seconds until a test gives up on an event


@dataclass
class Truth:
    """Every state that the watched prefix had, by the index at which it began. `state` is the last one."""

    state: dict[str, bytes] = field(default_factory=dict)
    history: dict[int, dict[str, bytes]] = field(default_factory=dict)

    def wrote(self, index: int, changes: dict[str, bytes | None]) -> None:
        for key, value in changes.items():
            if value is None:
                self.state.pop(key, None)
            else:
                self.state[key] = value
        self.history[index] = dict(self.state)

    def at(self, index: int) -> dict[str, bytes]:
        begun = [known for known in self.history if known <= index]
        return self.history[max(begun)] if begun else {}


def ordered(events: Sequence[WatchEvent]) -> None:
    """Indexes never go back."""
    last = 0
    for event in events:
        if not isinstance(event, Lost):
            assert event.index >= last, f"{event} after index {last}"
            last = event.index


def unique(events: Sequence[WatchEvent]) -> None:
    """What was delivered is not delivered again: neither an index nor a version of a key."""
    last = 0
    for event in events:
        if isinstance(event, Batch):
            assert event.puts or event.deletes, f"{event} says nothing"
            assert event.index > last, f"{event} again: {last} was delivered"
            for entry in event.puts:
                assert entry.version > last, f"{entry} again: everything up to {last} was delivered"
        if isinstance(event, Batch | Resync):
            last = event.index


def reliable(events: Sequence[WatchEvent], truth: Truth, start: dict[str, bytes] | None = None) -> None:
    """Whoever applies the events holds, after each of them, what the store held at that index; nothing else."""
    known = dict(start or {})
    for event in events:
        apply(known, event)
        if isinstance(event, Batch | Resync):
            assert known == truth.at(event.index), f"after {event}"
    assert known == truth.state, f"at the end: {known}"


def honest(events: Sequence[WatchEvent]) -> None:
    """Lost is said once, and any other event ends it."""
    for before, event in pairwise(events):
        assert not (isinstance(before, Lost) and isinstance(event, Lost)), "Lost twice without contact between"


async def resumable(store: Store, prefix: str, events: Sequence[WatchEvent], truth: Truth, last: str) -> None:
    """A watch from any delivered index brings what came after it, or says that it starts over."""
    known: dict[str, bytes] = {}
    for event in events:
        apply(known, event)
        if isinstance(event, Batch | Resync) and last not in known:
            rest = await collect(store, prefix, after=event.index, last=last)
            ordered(rest)
            unique(rest)
            reliable(rest, truth, start=known)


def apply(known: dict[str, bytes], event: WatchEvent) -> None:
    if isinstance(event, Resync):
        known.clear()
        known.update({entry.key: entry.value for entry in event.entries})
    if isinstance(event, Batch):
        for key in event.deletes:
            known.pop(key, None)
        known.update({entry.key: entry.value for entry in event.puts})


async def collect(store: Store, prefix: str, *, after: int | None, last: str) -> list[WatchEvent]:
    """The events of a watch up to the one that brings the key `last`. Fails when it does not come."""
    seen: list[WatchEvent] = []
    known: dict[str, bytes] = {}
    async with asyncio.timeout(PATIENCE), aclosing(store.watch(prefix, after=after)) as watch:
        async for event in watch:
            seen.append(event)
            apply(known, event)
            if last in known:
                break
    return seen


async def news(watch: Watch) -> WatchEvent:
    """The next event that is not a sign of life."""
    async with asyncio.timeout(PATIENCE):
        event = await anext(watch)
        while isinstance(event, Alive):
            event = await anext(watch)
    return event
