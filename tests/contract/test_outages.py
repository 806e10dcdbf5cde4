"""A server is killed, stopped, frozen or wiped under a watch and a writer: what each of them promises then."""

import asyncio
import time
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

import pytest

from registry.errors import Unavailable
from registry.store import Lost, Resync, Store, Watch, WatchEvent
from tests.contract.servers import SERVERS, Opener, Process, opened
from tests.contract.validators import Truth, apply, honest, ordered, reliable, resumable, unique

ROOT = "mesh/v1/test/"
PATIENCE = 60.0  # seconds
FROZEN = 20.0  # seconds
NOTICED = 12.0  # seconds: 8 by etcd's keep-alive and by the questions to Consul, and a machine that is busy
pytestmark = [pytest.mark.outages, pytest.mark.timeout(150)]

Running = tuple[Process, Opener]


@pytest.fixture(params=SERVERS)
def running_server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Running]:
    with SERVERS[request.param](tmp_path) as made:
        yield made


async def until(watch: Watch, wanted: type[WatchEvent], events: list[WatchEvent]) -> WatchEvent:
    """The next event of a kind; all that came are added to `events`."""
    async with asyncio.timeout(PATIENCE):
        while True:
            events.append(await anext(watch))
            if isinstance(events[-1], wanted):
                return events[-1]


async def written(store: Store, truth: Truth, name: str, value: bytes) -> None:
    """One put that is tried until the server is there again: those that were applied unseen do no harm."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                truth.wrote(await store.put(ROOT + name, value), {ROOT + name: value})
            except Unavailable:
                await asyncio.sleep(0.05)  # sleep: as a caller that tries again
            else:
                return


async def told(watch: Watch, truth: Truth, events: list[WatchEvent]) -> None:
    """Follow until the watch knows what was written, then hold it to its promises."""
    known: dict[str, bytes] = {}
    for event in events:
        apply(known, event)
    async with asyncio.timeout(PATIENCE):
        while known != truth.state:
            events.append(await anext(watch))
            apply(known, events[-1])
    ordered(events)
    unique(events)
    reliable(events, truth)
    honest(events)


@pytest.mark.parametrize("number", [SIGKILL, SIGTERM], ids=["SIGKILL", "SIGTERM"])
async def test_a_watch_and_a_writer_go_on_after_a_restart(running_server: Running, number: Signals) -> None:
    server, opener = running_server
    truth, events = Truth(), list[WatchEvent]()
    async with opened(opener) as store, aclosing(store.watch(ROOT)) as watch:
        await until(watch, Resync, events)
        await written(store, truth, "before", b"1")
        await told(watch, truth, events)
        await asyncio.to_thread(server.end, number)
        await until(watch, Lost, events)
        with pytest.raises(Unavailable):
            await store.put(ROOT + "before", b"2", expect=1)
        await asyncio.to_thread(server.start)
        await written(store, truth, "after", b"2")
        await written(store, truth, "last", b"3")
        await told(watch, truth, events)
        await resumable(store, ROOT, events, truth, ROOT + "last")


async def test_a_server_that_was_frozen_is_noticed_and_nothing_is_missed(running_server: Running) -> None:
    server, opener = running_server
    truth, events = Truth(), list[WatchEvent]()
    async with opened(opener) as store, aclosing(store.watch(ROOT)) as watch:
        await until(watch, Resync, events)
        await written(store, truth, "before", b"1")
        await told(watch, truth, events)
        server.signal(SIGSTOP)
        frozen = time.monotonic()
        try:
            await until(watch, Lost, events)
            assert time.monotonic() - frozen < NOTICED
            with pytest.raises(Unavailable):
                await store.get(ROOT + "before")
            await asyncio.sleep(max(0.0, FROZEN - (time.monotonic() - frozen)))  # sleep: the freeze itself
        finally:
            server.signal(SIGCONT)
        await written(store, truth, "after", b"2")
        await written(store, truth, "last", b"3")
        await told(watch, truth, events)
        await resumable(store, ROOT, events, truth, ROOT + "last")


@pytest.mark.parametrize("outgrown", [False, True], ids=["younger", "outgrown"])
async def test_a_wiped_server_is_a_new_truth_loudly(running_server: Running, outgrown: bool) -> None:
    server, opener = running_server
    events = list[WatchEvent]()
    async with opened(opener) as store, aclosing(store.watch(ROOT)) as watch:
        for n in range(1 if outgrown else 20):
            await store.put(ROOT + "old", b"%d" % n)
        before = await until(watch, Resync, events)
        assert isinstance(before, Resync)
        assert [entry.key for entry in before.entries] == [ROOT + "old"]
        await asyncio.to_thread(server.end, SIGKILL)
        await until(watch, Lost, events)
        server.wipe()
        await asyncio.to_thread(server.start)
        async with opened(opener) as other:
            for n in range(40 if outgrown else 1):
                await written(other, Truth(), "new", b"%d" % n)
        found = await until(watch, Resync, events)
        while isinstance(found, Resync) and ROOT + "new" not in (known := {entry.key for entry in found.entries}):
            assert ROOT + "old" not in known
            found = await anext(watch)
        truth = Truth()
        await written(store, truth, "last", b"1")
        truth = Truth(dict.fromkeys([ROOT + "new"], b"39" if outgrown else b"0") | truth.state)
        known_now: dict[str, bytes] = {}
        for event in events:
            apply(known_now, event)
        apply(known_now, found)
        async with asyncio.timeout(PATIENCE):
            while known_now != truth.state:
                apply(known_now, await anext(watch))
