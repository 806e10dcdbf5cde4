"""History: create-only, with who and when; the registry role fills in what nobody wrote."""

import json

from meshd.control import history
from registry import keys
from registry.model import Document
from registry.store import Entry
from tests.fakes.store import MemoryStore
from tests.unit.meshd.control.conftest import Clock, Lines

DOCUMENT = Document(kind="fault", name="slow", text=b"Service: api\n", version=7)


async def test_an_entry_says_who_and_when_and_is_never_replaced(store: MemoryStore) -> None:
    await history.write(store, DOCUMENT, "ada", 0.0)
    await history.write(store, DOCUMENT, "eve", 1.0)
    value = json.loads(store.entries[keys.history("fault", "slow", 7)].value)
    assert value == {"At": "1970-01-01T00:00:00Z", "Who": "ada", "Text": "Service: api\n"}


async def test_the_newest_is_first_and_garbage_is_left_out(store: MemoryStore) -> None:
    for version in (9, 10, 7):
        document = Document(kind="fault", name="slow", text=f"{version}".encode(), version=version)
        await history.write(store, document, "ada", 0.0)
    await store.put(keys.history("fault", "slow", 11), b"garbage")
    listing = await store.list(history.prefix("fault", "slow"))
    assert history.newest_first(listing.entries) == [(10, b"10"), (9, b"9"), (7, b"7")]
    assert history.newest_first([Entry(key="x/y", value=b"{}", version=1, created=1)]) == []


def test_each_version_is_recorded_once(store: MemoryStore, log: Lines) -> None:
    recorder = history.Recorder(store, log, Clock())
    recorder.accepted([DOCUMENT])
    recorder.accepted([DOCUMENT])
    assert recorder._waiting.qsize() == 1
