"""The host's status key: the agreed shape, changes only."""

import asyncio
import json

from meshd.control import status
from meshd.control.status import Held, HostStatus, ProxySeen, Publisher, Rejection
from registry import keys
from registry.errors import Unavailable
from tests.fakes.store import MemoryStore
from tests.unit.meshd.control.conftest import Lines

STATUS = HostStatus(
    node="a",
    version="1",
    update=3,
    documents={"mesh/mesh": Held("aa", 5)},
    rejected={"fault/x": Rejection("bb", 6, ("why",))},
    proxy=ProxySeen(1, 2, "v"),
)


async def turns(count: int = 20) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


class Bench:
    """A publisher under way."""

    def __init__(self, store: MemoryStore, log: Lines) -> None:
        self.current = STATUS
        self.lease: str | None = "lease"
        self.publisher = Publisher(store, "a", lambda: self.lease, lambda: self.current, log)
        self.task = asyncio.get_running_loop().create_task(self.publisher.run())

    async def end(self) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])


async def test_the_value_has_the_agreed_shape(store: MemoryStore, log: Lines) -> None:
    bench = Bench(store, log)
    bench.publisher.changed()
    await turns()
    assert json.loads(store.entries[keys.status("a")].value) == {
        "node": "a",
        "version": "1",
        "update": 3,
        "documents": {"mesh/mesh": {"digest": "aa", "version": 5}},
        "rejected": {"fault/x": {"digest": "bb", "version": 6, "problems": ["why"]}},
        "interest": {"called": [], "hosted": [], "all_policy": True},
        "proxy": {"pid": 1, "generation": 2, "version": "v"},
        "problems": [],
        "registries": {},
    }
    await bench.end()


async def test_without_a_lease_nothing_is_written(store: MemoryStore, log: Lines) -> None:
    bench = Bench(store, log)
    bench.lease = None
    bench.publisher.changed()
    await turns()
    assert store.entries == {}
    await bench.end()


async def test_a_second_write_waits(store: MemoryStore, log: Lines) -> None:
    bench = Bench(store, log)
    bench.publisher.changed()
    await turns()
    bench.current = HostStatus(node="a", version="2")
    bench.publisher.changed()
    await turns()
    assert b'"version":"1"' in store.entries[keys.status("a")].value
    await bench.end()


async def test_a_registry_that_is_away_is_said_once(store: MemoryStore, log: Lines) -> None:
    bench = Bench(store, log)
    store.failures.append(Unavailable("away"))
    bench.publisher.changed()
    await turns()
    assert log.events() == ["status cannot be written"]
    await bench.end()


def test_a_status_of_a_newer_meshd_is_read_as_far_as_it_is_known() -> None:
    assert status.read(b'{"node":"b","version":"9","novel":1}') == HostStatus(node="b", version="9")
    assert status.read(b"{") is None


def test_digest_is_half_a_sha256() -> None:
    assert status.digest(b"") == "e3b0c44298fc1c149afbf4c8996fb924"
