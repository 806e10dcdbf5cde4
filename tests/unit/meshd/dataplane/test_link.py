"""The conversation with one proxy: hello, answers, and what happens when it goes away."""

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshd.dataplane import frames
from meshd.dataplane.link import Link, open_link
from policies.compiled import Applied, Drain, Events, Rejected
from tests.fakes.proxy import FakeProxy


@asynccontextmanager
async def linked(proxy: FakeProxy) -> AsyncIterator[Link]:
    link = await open_link(proxy.path)
    reading = asyncio.get_running_loop().create_task(link.run())
    try:
        yield link
    finally:
        link.close()
        await asyncio.wait([reading])


async def test_hello_says_what_the_proxy_holds(proxy: FakeProxy) -> None:
    proxy.holds["service/api"] = ("00ff", {})
    async with linked(proxy) as link:
        assert link.hello.holds == {"service/api": "00ff"}
        assert link.pid == os.getpid()


async def test_an_update_is_answered(proxy: FakeProxy) -> None:
    async with linked(proxy) as link:
        assert await link.update(1, frames.encode_update(1, (), ("service/x",), full=False)) == Applied(update=1)
        proxy.refuse_all = "no"
        refused = await link.update(2, frames.encode_update(2, (), (), full=True))
        assert isinstance(refused, Rejected)
        assert refused.reason == "no"


async def test_scrape_and_dump(proxy: FakeProxy) -> None:
    async with linked(proxy) as link:
        assert (await link.scrape()).started == 1.0
        assert (await link.dump()).resources == ()


async def test_periodic_stats_are_kept_as_bytes(proxy: FakeProxy) -> None:
    async with linked(proxy) as link:
        proxy.send(proxy.stats(0))
        await link.scrape()  # frames are in order: the periodic one has been read
        assert link.latest.startswith(b'{"type":"stats","id":0,')


async def test_events_reach_their_reader(proxy: FakeProxy) -> None:
    async with linked(proxy) as link:
        seen: list[Events] = []
        link.on_events = seen.append
        proxy.send({"type": "events", "events": [{"at": 1.0, "kind": "denied", "origin": "x"}]})
        await link.scrape()
        assert seen[0].events[0].kind == "denied"


async def test_who_waits_is_told_when_the_proxy_closes(proxy: FakeProxy) -> None:
    async with linked(proxy) as link:
        proxy.cut()
        with pytest.raises(frames.Broken):
            await link.scrape()
        with pytest.raises(frames.Broken):
            await link.drain(Drain(scope="proxy"))


async def test_a_frame_out_of_contract_ends_the_link(proxy: FakeProxy) -> None:
    link = await open_link(proxy.path)
    proxy.send({"type": "applied", "update": 1, "surprise": True})
    with pytest.raises(frames.Broken, match="surprise"):
        await link.run()


async def test_nobody_listens(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        await open_link(tmp_path / "proxy-1.sock")


async def test_something_else_listens(tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(frames.pack(b'{"type":"applied","update":1}'))
        writer.close()

    server = await asyncio.start_unix_server(serve, str(tmp_path / "x.sock"))
    with pytest.raises(frames.Broken, match="no hello"):
        await open_link(tmp_path / "x.sock")
    server.close()
    await server.wait_closed()
