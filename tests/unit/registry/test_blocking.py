"""Over stores that only know watches; the exact ones are proven in the contract suite."""

import pytest

from registry.blocking import wait_change
from registry.errors import Denied
from registry.store import Alive, Batch, Lost, Resync
from tests.fakes.store import MemoryStore


@pytest.mark.parametrize(
    ("script", "found"),
    [
        ([Alive(7), Batch(8, (), ("a/x",))], 8),
        ([Lost("away"), Resync(9, ())], 9),
        ([Alive(3)], 3),  # the store is behind the caller: it was wiped
        ([], 7),
    ],
)
async def test_a_watch_answers_with_the_index_of_what_it_brings(script: list[object], found: int) -> None:
    store = MemoryStore()
    store.scripts = [script]  # type: ignore[list-item]  # events all
    assert await wait_change(store, "a/", 7, 10.0) == found
    assert store.watched == [("a/", 7)]


async def test_a_refusal_reaches_the_caller() -> None:
    store = MemoryStore()
    store.scripts = [[Denied("no right")]]
    with pytest.raises(Denied):
        await wait_change(store, "a/", 7, 10.0)
