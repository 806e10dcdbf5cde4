"""The store over HTTP beyond its contract: what goes wrong on the way, and how quick it is.

The contract itself runs in tests/contract on the embedded registry and on a real Consul.
"""

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import dataclass, field

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from registry.backends.consul import Backoff, ConsulStore
from registry.backends.sqlite import SqliteStore
from registry.errors import Conflict, Denied, TooLarge, Unavailable
from registry.store import Alive, Batch, Lost, Op, Resync, WatchEvent
from tests.fakes.served import api, deps, serve, store

__all__ = ["api", "deps", "serve", "store"]

KEY = '[{{"LockIndex":0,"Key":"p/{0}","Flags":0,"Value":"eA==","CreateIndex":{1},"ModifyIndex":{1}}}]'


@pytest.fixture
async def remote(api: TestClient) -> AsyncIterator[ConsulStore]:
    made = ConsulStore([str(api.make_url("/")).rstrip("/")])
    yield made
    await made.close()


@dataclass
class Scripted:
    """A server that answers with what it is given, in turn: (status, index, body); the last one for ever."""

    answers: list[tuple[int, int, str]]
    asked: list[dict[str, str]] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(dict(request.query))
        status, index, body = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        headers = {"X-Consul-Index": str(index)} if index else {}
        return web.Response(status=status, text=body, headers=headers, content_type="application/json")


@dataclass
class Paused:
    """Notes how long the store would have slept."""

    seconds: list[float] = field(default_factory=list)

    async def __call__(self, seconds: float) -> None:
        self.seconds.append(seconds)
        await asyncio.sleep(0)


async def follow(script: Scripted, count: int, paused: Paused) -> list[WatchEvent]:
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", script.answer)
    server = TestServer(app)
    await server.start_server()
    made = ConsulStore([str(server.make_url("")).rstrip("/")], backoff=Backoff(paused, lambda: 1.0))
    events: list[WatchEvent] = []
    try:
        async with asyncio.timeout(20), aclosing(made.watch("p/")) as watch:
            while len(events) < count:
                events.append(await anext(watch))
    finally:
        await made.close()
        await server.close()
    return events


async def test_a_watch_says_lost_once_waits_longer_each_time_and_starts_over() -> None:
    script = Scripted(
        [(200, 5, KEY.format("a", 5)), *[(500, 0, "No cluster leader")] * 3, (200, 9, KEY.format("a", 9))]
    )
    paused = Paused()
    events = await follow(script, 3, paused)
    assert [type(event) for event in events] == [Resync, Lost, Resync]
    assert isinstance(events[1], Lost)
    assert "No cluster leader" in events[1].reason
    assert paused.seconds[:3] == [0.1, 0.2, 0.4]
    # after the error it asks without an index, so without waiting
    assert ["index" in asked for asked in script.asked[:5]] == [False, True, False, False, False]


async def test_an_index_that_goes_backwards_is_read_again_without_waiting() -> None:
    script = Scripted([(200, 500, KEY.format("a", 5)), (200, 3, KEY.format("b", 3)), (200, 3, KEY.format("b", 3))])
    events = await follow(script, 2, Paused())
    assert [type(event) for event in events] == [Resync, Resync]
    assert script.asked[1]["index"] == "500"
    assert "index" not in script.asked[2]


async def test_an_early_answer_without_a_change_is_followed_by_a_read_that_does_not_wait() -> None:
    """A Consul that is restored from a snapshot ends all waits with what was there before."""
    kicked = Scripted([(200, 90, "[]"), (200, 90, "[]"), (200, 70, f"[{KEY.format('a', 60)[1:-1]}]")])
    events = await follow(kicked, 3, Paused())
    assert [type(event) for event in events] == [Resync, Alive, Resync]
    assert ["index" in one for one in kicked.asked[:3]] == [False, True, False]


async def test_a_server_that_does_not_block_is_not_asked_in_a_spin() -> None:
    paused = Paused()
    events = await follow(Scripted([(200, 5, KEY.format("a", 5))]), 30, paused)
    assert all(isinstance(event, Alive) for event in events[1:])
    assert len(paused.seconds) >= 25
    assert max(paused.seconds) == 0.1


async def test_an_answer_that_is_no_registrys_is_a_loss() -> None:
    for body in ("<html>", '{"a": 1}', "[{}]"):
        [event] = await follow(Scripted([(200, 5, body)]), 1, Paused())
        assert isinstance(event, Lost)
        assert "not an answer of a registry" in event.reason


async def test_a_watch_that_is_refused_ends_with_denied() -> None:
    with pytest.raises(Denied, match="403"):
        await follow(Scripted([(403, 0, "Permission denied")]), 1, Paused())


async def test_waits_are_never_longer_than_a_minute() -> None:
    script = Scripted([(200, 5, KEY.format("a", 5)), (200, 6, KEY.format("a", 6))])
    await follow(script, 2, Paused())
    assert script.asked[1]["wait"] == "1m0s"


async def test_a_change_arrives_when_it_is_committed(remote: ConsulStore, store: SqliteStore) -> None:
    seconds = []
    async with aclosing(remote.watch("p/")) as watch:
        await anext(watch)
        for n in range(20):
            pending = asyncio.gather(anext(watch))
            while not store.watching:  # noqa: ASYNC110 - the query has to have arrived
                await asyncio.sleep(0.0005)  # sleep: polls
            written = await store.put("p/a", b"%d" % n)
            committed = time.perf_counter()
            [event] = await pending
            seconds.append(time.perf_counter() - committed)
            assert isinstance(event, Batch)
            assert event.index == written
    assert sorted(seconds)[10] < 0.1  # milliseconds in fact; what is excluded is a poll


async def test_a_large_prefix_is_read_and_watched_in_one_go(remote: ConsulStore, store: SqliteStore) -> None:
    keys = [f"p/{n:05}" for n in range(5000)]
    for start in range(0, len(keys), 1000):
        await store.transact([Op(key=key, value=b"x" * 200) for key in keys[start : start + 1000]])
    async with asyncio.timeout(20), aclosing(remote.watch("p/")) as watch:
        first = await anext(watch)
        assert isinstance(first, Resync)
        assert [entry.key for entry in first.entries] == keys
        await store.put("p/00007", b"new")
        event = await anext(watch)
    assert isinstance(event, Batch)
    assert [(entry.key, entry.value) for entry in event.puts] == [("p/00007", b"new")]


async def test_closing_a_watch_frees_what_it_holds_at_the_server(remote: ConsulStore, store: SqliteStore) -> None:
    watch = remote.watch("p/")
    await anext(watch)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.2):
            await anext(watch)
    await watch.aclose()
    async with asyncio.timeout(10):
        while store.watching:  # noqa: ASYNC110 - the end of a connection has no event to wait for
            await asyncio.sleep(0.001)  # sleep: polls


async def test_closing_the_store_ends_its_watches(remote: ConsulStore) -> None:
    watch = remote.watch("p/")
    await anext(watch)

    async def close() -> None:
        await remote.close()

    async with asyncio.timeout(10):
        outcome, _ = await asyncio.gather(anext(watch), close(), return_exceptions=True)
    assert isinstance(outcome, StopAsyncIteration)


async def test_65_operations_are_too_many(remote: ConsulStore, store: SqliteStore) -> None:
    with pytest.raises(TooLarge):
        await remote.transact([Op(key=f"p/{n}", value=b"") for n in range(65)])
    assert (await store.list("p/")).entries == ()
    assert await remote.transact([]) > 0


async def test_large_values_go_their_own_way_under_the_same_conditions(remote: ConsulStore) -> None:
    big = b"x" * (512 * 1024)
    version = await remote.put("p/a", big, expect=0, flags=7)
    with pytest.raises(Conflict, match="absent"):
        await remote.put("p/a", big, expect=0)
    with pytest.raises(Conflict, match=f"version {version + 5}"):
        await remote.put("p/a", big + b"", expect=version + 5)
    entry = await remote.get("p/a")
    assert entry is not None
    assert (entry.version, entry.flags, len(entry.value)) == (version, 7, len(big))
    lease = await remote.grant(15.0)
    await remote.put("p/b", big, lease=lease)
    with pytest.raises(TooLarge, match="lease"):
        await remote.put("p/b", big, lease=lease, expect=1)
    with pytest.raises(TooLarge):
        await remote.acquire("p/c", big + b"x", lease)


async def test_keys_outside_the_alphabet_never_leave_this_host(remote: ConsulStore) -> None:
    for call in (remote.get("../a"), remote.put("a b", b""), remote.delete("a//b"), remote.acquire("", b"", "x")):
        with pytest.raises(Denied, match="is not a key"):
            await call


async def test_a_lease_that_is_too_short_is_said_so(remote: ConsulStore) -> None:
    with pytest.raises(Denied, match="TTL"):
        await remote.grant(1.0)
    assert await remote.grant(0.0)


async def test_a_registry_that_is_gone_is_unavailable(api: TestClient, remote: ConsulStore) -> None:
    lease = await remote.grant(15.0)
    await api.close()
    for call in (remote.get("a"), remote.put("a", b""), remote.renew(lease), remote.revoke(lease), remote.leases()):
        with pytest.raises(Unavailable):
            await call
