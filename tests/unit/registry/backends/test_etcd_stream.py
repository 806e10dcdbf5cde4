"""The one stream of all watches: opened again, each watch where it was; silence, refusals, a store that is another."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import grpc
import pytest

from registry.backends.etcd_client import Client
from registry.backends.etcd_links import Backoff, Links
from registry.backends.etcd_stream import Stream
from registry.backends.etcd_watch import EtcdWatch, Source
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied
from registry.store import Alive, Batch, Entry, Listing, Lost, Resync, WatchEvent
from tests.fakes.clock import Clock
from tests.fakes.etcd import FakeEtcd
from tests.fakes.running import running

PATIENCE = 10.0


class Bench:
    """A stream against a fake server."""

    def __init__(self, etcd: FakeEtcd, secret: str | None = None) -> None:
        self.etcd = etcd
        self.clock = Clock()
        self.client = Client(Links([etcd.address]), lambda: secret)
        self.backoff = Backoff(jitter=lambda: 0.1)
        self.stream = Stream(self.client, self.backoff, 0.02, self.clock.time)

    def watch(self, after: int | None = 10) -> EtcdWatch:
        async def listing() -> Listing:
            answer = await self.client.range(b"a", b"b")
            return Listing((), answer.header.revision)

        async def settle(key: str) -> None:
            raise AssertionError(key)

        return EtcdWatch(self.stream, Source((b"a", b"b"), listing, settle, self.backoff, 100), after)


@asynccontextmanager
async def bench(etcd: FakeEtcd | None = None, secret: str | None = None) -> AsyncIterator[Bench]:
    async with (etcd or FakeEtcd()).serve() as served:
        made = Bench(served, secret)
        async with running(made.stream.run()):
            yield made
        made.stream.close()
        await made.client.links.close()


async def news(watch: EtcdWatch, wanted: type[WatchEvent]) -> WatchEvent:
    async with asyncio.timeout(PATIENCE):
        while not isinstance(event := await anext(watch), wanted):
            pass
    return event


async def test_watches_share_one_stream_under_ids_of_their_own() -> None:
    async with bench() as made, aclosing(made.watch()) as one, aclosing(made.watch()) as two:
        await news(one, Alive)
        await news(two, Alive)
        assert [create.watch_id for create in made.etcd.created] == [1, 2]
        made.etcd.event(2, "a2", "x")
        made.etcd.event(1, "a1", "y")
        for watch, key in ((one, "a1"), (two, "a2")):
            event = await news(watch, Batch)
            assert isinstance(event, Batch)
            assert [entry.key for entry in event.puts] == [key]


async def test_after_a_break_each_watch_goes_on_behind_what_it_has() -> None:
    async with bench() as made, aclosing(made.watch()) as one, aclosing(made.watch(after=9)) as two:
        await news(one, Alive)
        await news(two, Alive)
        made.etcd.event(1, "a1", "x")
        await news(one, Batch)
        made.etcd.kvs = [pb.KeyValue(key=b"a1", value=b"x", mod_revision=11, create_revision=1)]
        made.etcd.hang_up()
        lost = await news(one, Lost)
        assert isinstance(lost, Lost)
        assert "going away" in lost.reason
        await news(one, Alive)
        await news(two, Lost)
        assert [create.start_revision for create in made.etcd.created[2:]] == [12, 10]


async def test_a_watch_that_ends_is_cancelled_at_the_server() -> None:
    async with bench() as made:
        async with aclosing(made.watch()) as watch:
            await news(watch, Alive)
        async with aclosing(made.watch()) as other:
            await news(other, Alive)
        assert made.etcd.canceled[:1] == [1]
        assert made.stream.held == 0


async def test_an_answer_to_a_progress_request_is_a_sign_of_life() -> None:
    async with bench() as made, aclosing(made.watch()) as watch:
        for _ in range(3):
            assert await news(watch, Alive) == Alive(10)


async def test_a_server_that_does_not_answer_progress_requests_has_lost_contact() -> None:
    async with bench() as made, aclosing(made.watch()) as watch:
        await news(watch, Alive)
        made.etcd.silent = True
        made.clock.now += 1.0  # asked from here on
        asked = asyncio.get_running_loop().time()
        async with asyncio.timeout(PATIENCE):
            while not isinstance(event := await advanced(made, watch), Lost):
                pass
        assert "no answer in 4 s" in event.reason
        assert asyncio.get_running_loop().time() - asked < PATIENCE


async def advanced(made: Bench, watch: EtcdWatch) -> WatchEvent | None:
    """The next event, while the stream's clock goes on."""
    made.clock.now += 1.0
    try:
        async with asyncio.timeout(0.05):
            return await anext(watch)
    except TimeoutError:
        return None


async def test_a_store_that_is_younger_than_what_was_seen_is_listed_anew() -> None:
    async with bench() as made, aclosing(made.watch(after=500)) as watch:
        event = await news(watch, Resync)
        assert event == Resync(10, ())
        await news(watch, Alive)
        assert made.etcd.created[-1].start_revision == 11
        assert made.etcd.canceled == [1]


async def test_after_a_break_a_store_without_what_was_seen_is_another_one() -> None:
    async with bench() as made, aclosing(made.watch()) as watch:
        await news(watch, Alive)
        made.stream.saw(Entry(key="a1", value=b"x", version=9, created=1))
        made.etcd.hang_up()
        await news(watch, Lost)
        assert isinstance(await news(watch, Resync), Resync)


async def test_a_compacted_watch_lists_anew_on_the_same_stream() -> None:
    async with bench() as made, aclosing(made.watch()) as watch:
        await news(watch, Alive)
        made.etcd.revision = 50
        made.etcd.say(pb.WatchResponse(watch_id=1, canceled=True, compact_revision=40))
        assert await news(watch, Resync) == Resync(50, ())
        await news(watch, Alive)
        assert [create.start_revision for create in made.etcd.created] == [11, 51]
        assert made.etcd.canceled == [1], "etcd 3.4 keeps it otherwise"


async def test_a_refused_watch_is_denied_when_listing_is_too_and_the_others_go_on() -> None:
    async with bench() as made, aclosing(made.watch()) as good:
        await news(good, Alive)
        made.etcd.refuse = "etcdserver: permission denied"
        made.etcd.failing = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        async with aclosing(made.watch()) as bad:
            with pytest.raises(Denied, match="permission denied"):
                await news(bad, Batch)
        made.etcd.event(1, "a1", "x")
        assert isinstance(await news(good, Batch), Batch)


async def test_with_a_new_token_a_further_watch_opens_the_stream_anew_and_nobody_loses_contact() -> None:
    async with bench(FakeEtcd(node="secret"), "node:secret") as made, aclosing(made.watch()) as one:
        await news(one, Alive)
        made.etcd.tokens.clear()
        await made.client.range(b"a")  # logs in again
        async with aclosing(made.watch(after=None)) as two:
            await news(two, Resync)
            await news(two, Alive)
            made.etcd.event(3, "a1", "x")
            event = await anext(one)
            while isinstance(event, Alive):
                made.etcd.event(made.etcd.created[-2].watch_id, "a1", "x")
                event = await anext(one)
        assert isinstance(event, Batch)


async def test_who_cannot_log_in_is_denied() -> None:
    async with bench(FakeEtcd(node="secret"), "node:wrong") as made, aclosing(made.watch()) as watch:
        with pytest.raises(Denied, match="authentication failed"):
            await news(watch, Batch)


async def test_its_close_ends_all_watches_and_later_ones_at_once() -> None:
    async with bench() as made:
        watch = made.watch()
        await news(watch, Alive)
        made.stream.close()
        for each in (watch, made.watch()):
            with pytest.raises(StopAsyncIteration):
                await anext(each)


async def test_it_ends_by_itself_when_its_connection_is_closed_under_it() -> None:
    """gRPC tells that as a cancellation, which would look like one of whoever runs it."""
    async with FakeEtcd().serve() as etcd:
        made = Bench(etcd)
        watch = made.watch()

        async def close() -> None:
            assert isinstance(await anext(watch), Alive)
            made.stream._closed = True
            await made.client.links.close()

        async with asyncio.timeout(PATIENCE):
            assert await asyncio.gather(made.stream.run(), close(), return_exceptions=True) == [None, None]
