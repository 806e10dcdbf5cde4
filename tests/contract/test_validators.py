"""Each validator finds the broken promise that it is there for."""

from collections.abc import Sequence

import pytest

from registry.store import Alive, Batch, Lost, Resync, WatchEvent
from tests.contract.validators import Truth, honest, ordered, reliable, resumable, unique
from tests.fakes.store import MemoryStore
from tests.unit.registry.made import entry

TRUTH = Truth()
TRUTH.wrote(2, {"p/a": b"1"})
TRUTH.wrote(3, {"p/b": b"2"})
TRUTH.wrote(4, {"p/a": None})
A, B = entry("p/a", b"1", 2), entry("p/b", b"2", 3)
GOOD: tuple[WatchEvent, ...] = (Resync(2, (A,)), Alive(2), Batch(3, (B,)), Lost("away"), Batch(4, (), ("p/a",)))


def test_a_true_history_passes() -> None:
    for validator in (ordered, unique, honest):
        validator(GOOD)
    reliable(GOOD, TRUTH)


def test_an_index_that_goes_back_is_found() -> None:
    with pytest.raises(AssertionError, match="after index 3"):
        ordered([Batch(3, (B,)), Alive(2)])


@pytest.mark.parametrize(
    "events", [[Batch(3, (B,)), Batch(3, (B,))], [Resync(3, (A, B)), Batch(4, (B,))], [Resync(3, ()), Batch(4)]]
)
def test_what_is_told_twice_or_says_nothing_is_found(events: Sequence[WatchEvent]) -> None:
    with pytest.raises(AssertionError, match=r"again|says nothing"):
        unique(events)


@pytest.mark.parametrize("missing", [0, 2, 4])
def test_an_event_that_was_swallowed_is_found(missing: int) -> None:
    with pytest.raises(AssertionError, match=r"after|at the end"):
        reliable([event for n, event in enumerate(GOOD) if n != missing], TRUTH)


def test_lost_twice_is_found() -> None:
    with pytest.raises(AssertionError, match="Lost twice"):
        honest([Lost("away"), Lost("away")])


async def test_a_resumed_watch_that_skips_something_is_found() -> None:
    truth = Truth()
    truth.wrote(2, {"p/a": b"1"})
    truth.wrote(3, {"p/b": b"2"})
    truth.wrote(4, {"p/last": b"3"})
    store = MemoryStore()
    store.scripts = [[Batch(4, (entry("p/last", b"3", 4),))]]
    with pytest.raises(AssertionError, match="after Batch"):
        await resumable(store, "p/", [Resync(2, (A,))], truth, "p/last")
