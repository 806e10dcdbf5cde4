"""TCP services: bytes both ways, half-close, permissions at connect and on live connections."""

import asyncio

import pytest

from policies import compiled as c
from tests.unit.proxy.echo import Backend, Conversation, free_port
from tests.unit.proxy.harness import MeshPair, ProxyHarness
from tests.unit.proxy.wire import Wire

DENY = c.Permissions(sources=(c.Source(name="web", origin="service-intentions/api#Sources[0]@2", action="deny"),))


async def shouting(t: Conversation) -> None:
    """Answers everything in capitals after the other side is done, then ends."""
    data = await t.reader.read()
    await t.send(data.upper())


async def mirror(t: Conversation) -> None:
    while data := await t.reader.read(65536):
        await t.send(data)


@pytest.mark.parametrize("pair", [False, True], ids=["hop", "pair"])
async def test_half_close_passes_and_the_answer_comes_back(pair: bool) -> None:
    async def check(port: int) -> None:
        async with Wire(port) as w:
            await w.send(b"speak " * 50_000)
            w.writer.write_eof()
            assert await w.rest() == b"SPEAK " * 50_000

    if pair:
        async with MeshPair(handler=shouting, protocol="tcp") as m:
            await check(m.port)
            stats = await m.b.control.scrape()
            assert [(s.reporter, s.source, s.destination, s.opened, s.closed) for s in stats.tcp] == [
                ("destination", "web", "api", 1, 1)
            ]
    else:
        async with Backend(shouting) as app, ProxyHarness() as p:
            await check(await p.upstream("api", app.address, protocol="tcp"))


async def test_the_server_may_end_first() -> None:
    async def greeting(t: Conversation) -> None:
        await t.send(b"hello and goodbye")
        t.writer.write_eof()
        assert await t.reader.read() == b"thanks"

    async with MeshPair(handler=greeting, protocol="tcp") as m, Wire(m.port) as w:
        assert await w.rest() == b"hello and goodbye"
        await w.send(b"thanks")
        w.writer.write_eof()
        await asyncio.wait_for(m.app.ended.wait(), 3)


async def test_much_passes_both_ways_at_once() -> None:
    data = bytes(range(256)) * 20_000
    async with MeshPair(handler=mirror, protocol="tcp") as m, Wire(m.port) as w:
        sending = asyncio.gather(w.send(data))
        assert await asyncio.wait_for(w.reader.readexactly(len(data)), 20) == data
        await sending


async def test_a_denied_caller_is_closed_before_the_app_hears_of_it() -> None:
    async with MeshPair(handler=mirror, protocol="tcp", permissions=DENY) as m, Wire(m.port) as w:
        await w.send(b"x")
        assert await w.is_closed()
        assert m.app.connections == 0
        await m.b.control.event("denied", origin="service-intentions/api#Sources[0]@2")


async def test_a_live_connection_is_cut_when_it_is_denied_and_kept_when_not() -> None:
    async with MeshPair(handler=mirror, protocol="tcp") as m, Wire(m.port) as w:
        await w.send(b"one")
        assert await w.reader.readexactly(3) == b"one"
        await m.b.update(m.inbound(c.Permissions(fallback="allow")))
        await m.a.update(m.authority.trust())
        await w.send(b"two")
        assert await w.reader.readexactly(3) == b"two"
        await m.b.update(m.inbound(DENY))
        assert await w.is_closed()
        await asyncio.wait_for(m.app.ended.wait(), 3)


async def test_layer_7_permissions_on_tcp_deny() -> None:
    rules = c.Permissions(
        sources=(c.Source(name="web", origin="o", permissions=(c.Permission(action="allow", origin="p"),)),)
    )
    async with MeshPair(handler=mirror, protocol="tcp", permissions=rules) as m, Wire(m.port) as w:
        await w.send(b"x")
        assert await w.is_closed()
        assert m.app.connections == 0


async def test_an_http_service_is_never_relayed_as_bytes() -> None:
    """The callee decides: a caller that takes the service for TCP offers an ALPN that does not fit."""
    async with MeshPair(handler=mirror) as m:
        await m.a.update(c.Service(name="api", protocol="tcp"))
        async with Wire(m.port) as w:
            await w.send(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
            assert await w.is_closed()
        await m.b.control.event("tls_failure")
        assert m.app.connections == 0


async def test_another_endpoint_is_tried_when_one_is_dead() -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with Backend(mirror) as app, ProxyHarness() as p:
        port = await p.upstream("api", dead, app.address, protocol="tcp", outlier=c.Outlier(consecutive_failures=99))
        for _ in range(10):
            async with Wire(port) as w:
                await w.send(b"x")
                assert await w.reader.readexactly(1) == b"x"


async def test_a_tcp_call_on_the_same_host_is_authorized() -> None:
    async with MeshPair(handler=mirror, protocol="tcp") as m:
        listener = m.b.listener("api")
        await m.b.update(c.Service(name="api", protocol="tcp"), m.endpoint(), listener)
        await m.b.control.event("listener_bound", endpoint=listener.name)
        async with Wire(listener.port) as w:
            await w.send(b"x")
            assert await w.reader.readexactly(1) == b"x"
            await m.b.update(m.inbound(DENY))
            assert await w.is_closed()
        async with Wire(listener.port) as w:
            assert await w.is_closed()
