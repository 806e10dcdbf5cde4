"""A watch that forgets to tell, over every store: what it missed is found by a listing, and nothing else is."""

import asyncio
from contextlib import aclosing

from registry.reconcile import Pace, Reconcile
from registry.store import Batch, Resync, StaleReads, Watch, WatchEvent
from tests.contract.backends import Bench
from tests.fakes.forgetful import ForgetfulStore


class Lines:
    def __init__(self) -> None:
        self.found: list[dict[str, object]] = []

    def warning(self, event: str, **fields: object) -> None:
        self.found.append(fields)


class Host:
    """`known`: what a host would believe, from the watch and from what is made good."""

    def __init__(self, bench: Bench, selector: str) -> None:
        self.store = ForgetfulStore(bench.store)
        self.selector = selector
        self.known: dict[str, bytes] = {}
        self.log = Lines()
        pace = Pace(pause=self._pause)
        self.reconcile = Reconcile(self.store, lambda: (selector,), self._repair, self.log, pace)  # type: ignore[arg-type]  # reads and watches are all it is asked for

    async def _pause(self, seconds: float) -> None:
        await asyncio.sleep(0)

    async def _repair(self, selector: str, missed: Batch) -> None:
        self.take(missed)

    def take(self, event: WatchEvent) -> None:
        self.reconcile.seen(self.selector, event)
        if isinstance(event, Resync):
            self.known = {entry.key: entry.value for entry in event.entries}
        elif isinstance(event, Batch):
            for key in event.deletes:
                self.known.pop(key, None)
            self.known |= {entry.key: entry.value for entry in event.puts}

    async def until(self, key: str, value: bytes | None, events: Watch) -> None:
        """Take in events until the host knows this of a key."""
        async with asyncio.timeout(20):
            while self.known.get(key) != value:
                self.take(await events.__anext__())


async def test_what_a_watch_forgot_is_made_good_and_all_else_agrees(bench: Bench) -> None:
    names = [f"{bench.root}k{n}" for n in range(6)]
    for name in names[:4]:
        await bench.store.put(name, b"1")
    host = Host(bench, bench.root)
    watch = host.store.watch(bench.root)
    async with aclosing(watch):  # type: ignore[type-var]  # a generator
        await host.until(names[3], b"1", watch)
        host.store.forget |= {names[0], names[1], names[4]}
        await bench.store.put(names[0], b"2")
        await bench.store.delete(names[1])
        await bench.store.put(names[4], b"1")
        await bench.store.put(names[2], b"2")
        await bench.store.put(names[5], b"1")  # when this is known, all before it has been told, or never will be
        await host.until(names[5], b"1", watch)
        assert host.known[names[0]] == b"1"
        assert await host.reconcile.check(bench.root) == 3
        stored = {entry.key: entry.value for entry in (await bench.store.list(bench.root)).entries}
        assert host.known == stored
        assert await host.reconcile.check(bench.root) == 0
        assert host.log.found[0]["keys"] == sorted((names[0], names[1], names[4]))


async def test_one_key_is_compared_as_that_key(bench: Bench) -> None:
    name = f"{bench.root}web"
    await bench.store.put(name + "2", b"1")
    host = Host(bench, name)
    host.take(Resync(1, ()))
    assert await host.reconcile.check(name) == 0
    await bench.store.put(name, b"1")
    assert await host.reconcile.check(name) == 1
    assert host.known == {name: b"1"}


async def test_a_cheap_reading_shows_what_a_listing_shows(bench: Bench) -> None:
    await bench.store.put(f"{bench.root}a", b"1")
    await bench.store.put(f"{bench.root}a2", b"2")
    cheap = bench.store.glance if isinstance(bench.store, StaleReads) else bench.store.list
    listing = await bench.store.list(bench.root)
    async with asyncio.timeout(20):
        while (await cheap(bench.root)).entries != listing.entries:  # noqa: ASYNC110 - another server may be behind
            await asyncio.sleep(0.01)  # sleep: between two looks
    if isinstance(bench.store, StaleReads):
        assert [entry.value for entry in (await bench.store.glance(f"{bench.root}a")).entries] == [b"1"]
