"""Random histories: whatever is written, and however often the reader pauses or comes back, every promise holds."""

import uuid
from contextlib import aclosing

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.store import Batch, Op, Resync, Store, WatchEvent
from tests.contract.backends import Bench, needs
from tests.contract.validators import Truth, collect, honest, news, ordered, reliable, resumable, unique

NAMES = st.sampled_from(["a", "b", "c/1", "c/2"])
PUT = st.tuples(NAMES, st.binary(min_size=1, max_size=3))
DELETE = st.tuples(NAMES, st.none())
CHANGES = st.dictionaries(NAMES, st.one_of(st.binary(min_size=1, max_size=3), st.none()), min_size=1, max_size=4)
STEPS = st.lists(st.one_of(CHANGES, st.sampled_from(["read", "return", "forget"])), max_size=25)
Step = dict[str, bytes | None] | str
HISTORIES = settings(
    max_examples=25,
    deadline=None,  # real servers are among the backends
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # every example has a prefix of its own
)


async def write(store: Store, root: str, changes: dict[str, bytes | None], truth: Truth) -> bool:
    """True when there was something to change."""
    named = {root + name: value for name, value in changes.items()}
    effective = {key: value for key, value in named.items() if truth.state.get(key) != value}
    index = await store.transact([Op(key=key, value=value) for key, value in named.items()])
    if effective:
        truth.wrote(index, effective)
    return bool(effective)


class Reader:
    """Takes an event now and then, and comes back with the index of the last one."""

    def __init__(self, store: Store, root: str) -> None:
        self.store, self.root = store, root
        self.events: list[WatchEvent] = []
        self.known_to = 0
        self.watch = store.watch(root)

    async def read(self, newest: int) -> None:
        if self.known_to >= newest and self.events:
            return  # there is nothing to wait for
        event = await news(self.watch)
        self.events.append(event)
        if isinstance(event, Batch | Resync):
            self.known_to = event.index

    async def come_back(self) -> None:
        await self.watch.aclose()
        self.watch = self.store.watch(self.root, after=self.known_to if self.events else None)


async def tell(bench: Bench, steps: list[Step], *, forgets: bool) -> None:
    store, root, truth = bench.store, f"{bench.root}{uuid.uuid4()}/", Truth()
    reader, newest, last = Reader(store, root), 0, f"{root}last"
    for step in steps:
        if step == "read":
            await reader.read(newest)
        elif step == "return":
            await reader.come_back()
        elif step == "forget" and forgets:
            await bench.forget()
        elif isinstance(step, dict) and await write(store, root, step, truth):
            newest = max(truth.history)
    await write(store, root, {"last": b"1"}, truth)
    async with aclosing(reader.watch):
        while reader.known_to < max(truth.history):
            await reader.read(max(truth.history))
    for events in (reader.events, await collect(store, root, after=None, last=last)):
        ordered(events)
        unique(events)
        reliable(events, truth)
        honest(events)
    await resumable(store, root, reader.events, truth, last)


@HISTORIES
@given(steps=STEPS)
async def test_every_history_is_told_truly(bench: Bench, steps: list[Step]) -> None:
    await tell(bench, steps, forgets=False)


@needs("forget")
@HISTORIES
@given(steps=STEPS)
async def test_every_history_is_told_truly_by_a_store_that_forgets(bench: Bench, steps: list[Step]) -> None:
    await tell(bench, steps, forgets=True)
