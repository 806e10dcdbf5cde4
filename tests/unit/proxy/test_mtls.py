"""Two proxies with mutual TLS: identities, permissions, and what changes on live connections."""

import asyncio
import ssl
import tempfile
from pathlib import Path

import pytest

from policies import compiled as c
from tests.unit.proxy.certs import Authority, Leaf, sni
from tests.unit.proxy.echo import Backend, Conversation
from tests.unit.proxy.harness import MeshPair, ProxyHarness, Rejected, allow, settings
from tests.unit.proxy.wire import Wire, eventually, get

DENY = c.Permissions(sources=(c.Source(name="web", origin="service-intentions/api#Sources[0]@2", action="deny"),))


def layer7(*permissions: c.Permission) -> c.Permissions:
    return c.Permissions(sources=(c.Source(name="web", origin="test/l7@1", permissions=permissions),))


def context(m: MeshPair, leaf: Leaf | None, alpn: str | None = "http/1.1") -> ssl.SSLContext:
    """A foreign client's TLS context."""
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname = False
    ctx.verify_mode = ssl.CERT_NONE
    if alpn:
        ctx.set_alpn_protocols([alpn])
    if leaf is not None:
        with tempfile.TemporaryDirectory() as d:
            (Path(d) / "c.pem").write_text(leaf.chain + leaf.key_pem)
            ctx.load_cert_chain(Path(d) / "c.pem")
    return ctx


async def foreign(m: MeshPair, ctx: ssl.SSLContext, name: str | None, request: bytes = get("/f")) -> bytes:
    """What a client that is no proxy gets; raises when TLS fails."""
    reader, writer = await asyncio.open_connection("127.0.0.1", m.inbound_port, ssl=ctx, server_hostname=name or "")
    try:
        writer.write(request)
        await writer.drain()
        return await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    finally:
        writer.transport.abort()


async def test_a_denied_caller_gets_403_and_the_intention_is_counted() -> None:
    async with MeshPair(permissions=DENY) as m, Wire(m.port) as w:
        r = await w.ask(get())
        assert (r.status, "[UAEX]" in r.text, "service-intentions/api#Sources[0]@2" in r.text) == (403, True, True)
        assert r.header("x-meshd-answer") is None
        assert (await w.ask(get())).status == 403, "the connection stays"
        stats = await m.b.control.scrape()
        assert [(d.name, d.count) for d in stats.denied] == [("service-intentions/api#Sources[0]@2", 2)]
        event = await m.b.control.event("denied")
        assert event.detail == m.authority.spiffe("web/a/web-1")
        source = await m.a.control.scrape()
        assert [(s.code, s.flags) for s in source.requests] == [(403, "UAEX")]
        assert m.app.requests == []


async def test_permissions_hold_per_path_and_method() -> None:
    rules = layer7(
        c.Permission(action="deny", origin="test/secret", match=c.Match(path_prefix="/secret")),
        c.Permission(action="allow", origin="test/get", match=c.Match(methods=("GET",))),
    )
    async with MeshPair(permissions=rules) as m, Wire(m.port) as w:
        assert (await w.ask(get("/open"))).status == 200
        assert (await w.ask(get("/secret/x"))).status == 403
        assert (await w.ask(get("/a/../secret/x"))).status == 403
        assert (await w.ask(get("//secret"))).status == 403
        assert (await w.ask(get("/open", method="DELETE"))).status == 403
        assert (await w.ask(get("/open"))).status == 200


async def test_a_request_in_flight_is_cut_when_it_is_denied_meanwhile() -> None:
    async def handler(t: Conversation) -> None:
        await t.request()
        await t.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun")
        await t.closed()

    async with MeshPair(handler=handler) as m, Wire(m.port) as w:
        await w.send(get())
        assert (await w.head()).status == 200
        await m.b.update(m.inbound(DENY))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await w.reader.readexactly(1000)
        await asyncio.wait_for(m.app.ended.wait(), 3)


async def test_a_change_that_still_allows_cuts_nobody() -> None:
    go = asyncio.Event()

    async def handler(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\n12")
            await go.wait()
            await t.send(b"34")

    async with MeshPair(handler=handler) as m, Wire(m.port) as w:
        await w.send(get())
        await w.head()
        await m.b.update(m.inbound(allow("*", "test/other@2")))
        await m.a.update(settings("a", trace_sampling=1))
        go.set()
        assert await w.reader.readexactly(4) == b"1234"
        assert (await w.ask(get())).status == 200


async def test_an_idle_connection_of_a_denied_caller_is_closed() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        assert (await w.ask(get())).status == 200
        before = (await m.b.control.scrape()).connections
        assert before == 1
        await m.b.update(m.inbound(DENY))

        async def closed() -> bool:
            return (await m.b.control.scrape()).connections == 0

        await eventually(closed)
        assert (await w.ask(get())).status == 403
        await m.b.update(m.inbound())
        assert (await w.ask(get())).status == 200


async def test_a_revoked_caller_loses_live_connections_and_gets_no_new_one() -> None:
    async def handler(t: Conversation) -> None:
        await t.request()
        await t.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun")
        await t.closed()

    async with MeshPair(handler=handler) as m, Wire(m.port) as w:
        await w.send(get())
        await w.head()
        await m.b.update(m.authority.trust(c.Revoked(spiffe=m.authority.spiffe("web/a/web-1"))))
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await w.reader.readexactly(1000)
        async with Wire(m.port) as again:
            assert (await again.ask(get())).status == 503
        failure = await m.b.control.event("tls_failure")
        assert "revoked" in failure.detail


async def test_a_revoked_callee_is_not_called() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        assert (await w.ask(get())).status == 200
        await m.a.update(m.authority.trust(c.Revoked(spiffe=m.spiffe)))
        assert (await w.ask(get())).status == 503
        await m.a.update(m.authority.trust())
        assert (await w.ask(get())).status == 200


async def test_another_identity_at_the_address_is_refused() -> None:
    """A reused address: the endpoint answers with a valid certificate of another instance."""
    async with MeshPair() as m, Wire(m.port) as w:
        name = "api/c/api-9"
        moved = c.Endpoint(
            name=name, id="api-9", service="api", node="c", address=m.app.address,
            inbound=f"127.0.0.1:{m.inbound_port}", sni=sni(m.spiffe), spiffe=m.authority.spiffe(name),
        )  # fmt: skip
        await m.a.update(moved, delete=(f"endpoint/{m.name}",))
        r = await w.ask(get())
        assert r.status == 503
        failure = await m.a.control.event("tls_failure", endpoint=name)
        assert m.spiffe in failure.detail
        assert m.app.requests == []


async def test_a_renewed_certificate_serves_new_connections_and_keeps_the_old() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        assert (await w.ask(get())).status == 200
        await m.b.update(m.authority.identity(m.name))
        await m.a.update(m.authority.identity("web/a/web-1"))
        assert (await w.ask(get())).status == 200
        assert m.app.connections == 1
        ctx = context(m, m.authority.instance("web/a/web-1"))
        assert (await foreign(m, ctx, sni(m.spiffe))).startswith(b"HTTP/1.1 200")


async def test_foreign_clients_speak_http_with_a_certificate_and_only_so() -> None:
    async with MeshPair() as m:
        web = m.authority.instance("web/a/web-1")
        name = sni(m.spiffe)
        assert (await foreign(m, context(m, web), name)).startswith(b"HTTP/1.1 200")
        assert (await foreign(m, context(m, web), name.upper())).startswith(b"HTTP/1.1 200")
        strangers = Authority().instance("web/a/web-1")
        for leaf, server, alpn in (
            (None, name, "http/1.1"),
            (strangers, name, "http/1.1"),
            (web, "i-00000000000000000000000000000000.mesh", "http/1.1"),
            (web, None, "http/1.1"),
            (web, name, "meshd-tcp"),
            (web, name, "h2"),
            (web, name, None),
        ):
            with pytest.raises((ssl.SSLError, ConnectionError, asyncio.IncompleteReadError)):
                await foreign(m, context(m, leaf, alpn), server)
        assert len(m.app.requests) == 2


async def test_internal_headers_of_a_foreign_client_are_not_believed() -> None:
    async with MeshPair() as m:
        ctx = context(m, m.authority.instance("web/a/web-1"))
        spoof = get("/", "x-meshd-source: spiffe://mesh.local/svc/admin/n/a/i/1", "X-Meshd_Source: evil")
        assert (await foreign(m, ctx, sni(m.spiffe), spoof)).startswith(b"HTTP/1.1 200")
        [r] = m.app.requests
        assert r.all("x-meshd-source") == [m.authority.spiffe("web/a/web-1")]
        assert b"evil" not in r.head


async def test_a_client_hello_in_single_bytes_meets_the_same_demands() -> None:
    """Traefik CVE-2026-32305: a fragmented ClientHello must not get other TLS options."""
    async with MeshPair() as m:
        for leaf, good in ((m.authority.instance("web/a/web-1"), True), (None, False)):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = context(m, leaf).wrap_bio(incoming, outgoing, server_hostname=sni(m.spiffe))
            reader, writer = await asyncio.open_connection("127.0.0.1", m.inbound_port)
            answered = await _drive(tls, incoming, outgoing, reader, writer)
            assert answered.startswith(b"HTTP/1.1 200") == good
            writer.transport.abort()


async def _drive(
    tls: ssl.SSLObject,
    incoming: ssl.MemoryBIO,
    outgoing: ssl.MemoryBIO,
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
) -> bytes:
    """Handshake and one request, every byte in a segment of its own."""
    asked = False
    while True:
        try:
            if not asked:
                tls.do_handshake()
                tls.write(get("/slow"))
                asked = True
            return tls.read(65536)
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLError:
            return b""
        try:
            for byte in outgoing.read():
                writer.write(bytes([byte]))
                await writer.drain()
            got = await asyncio.wait_for(reader.read(65536), 5)
        except ConnectionError:
            return b""
        if not got:
            return b""
        incoming.write(got)


async def test_plaintext_needs_the_callers_leave_and_a_service_that_is_not_meshed() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, allow_plaintext=False)
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 503
        await p.upstream("other", app.address)
        meshed = c.Endpoint(
            name="api/y/m", id="m", service="api", node="y", address="127.0.0.1:1", inbound="127.0.0.1:1",
            sni=sni(p.authority.spiffe("api/y/m")), spiffe=p.authority.spiffe("api/y/m"), state="critical",
        )  # fmt: skip
        port = await p.upstream("api", app.address, allow_plaintext=True)
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 200
            await p.update(meshed)
            assert (await w.ask(get())).status == 503
        assert len(app.requests) == 1


async def test_a_call_to_the_same_host_is_authorized_without_tls() -> None:
    async with MeshPair() as m:
        listener = m.b.listener("api", caller="web")
        await m.b.update(
            m.authority.identity("web/b/web-1"), c.Service(name="api", protocol="http"), m.endpoint(), listener
        )
        await m.b.control.event("listener_bound", endpoint=listener.name)
        async with Wire(listener.port) as w:
            assert (await w.ask(get())).status == 200
            assert m.app.requests[0].header("x-meshd-source") == m.authority.spiffe("web/b/web-1")
            await m.b.update(m.inbound(DENY))
            r = await w.ask(get())
            assert (r.status, "[UAEX]" in r.text) == (403, True)
        stats = await m.b.control.scrape()
        assert sorted((s.reporter, s.code) for s in stats.requests) == [
            ("destination", 200),
            ("destination", 403),
            ("source", 200),
            ("source", 403),
        ]


async def test_a_call_in_flight_on_the_same_host_is_cut_when_it_is_denied() -> None:
    async def handler(t: Conversation) -> None:
        r = await t.request()
        if r is not None and r.target == "/begun":
            await t.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000\r\n\r\nbegun")
        await t.closed()

    async with MeshPair(handler=handler) as m:
        listener = m.b.listener("api")
        await m.b.update(c.Service(name="api", protocol="http"), m.endpoint(), listener)
        await m.b.control.event("listener_bound", endpoint=listener.name)
        async with Wire(listener.port) as begun, Wire(listener.port) as waiting:
            await begun.send(get("/begun"))
            await begun.head()
            await waiting.send(get("/waiting"))
            await eventually(lambda: has_two(m))
            await m.b.update(m.inbound(DENY))
            with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
                await begun.reader.readexactly(1000)
            assert (await waiting.response()).status == 403


async def has_two(m: MeshPair) -> bool:
    return len(m.app.requests) == 2


async def test_more_connections_than_allowed_are_refused() -> None:
    async with MeshPair(inbound={"max_connections": 1}) as m:
        web = m.authority.instance("web/a/web-1")
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", m.inbound_port, ssl=context(m, web), server_hostname=sni(m.spiffe)
        )
        writer.write(get())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200")
        assert (await foreign(m, context(m, web), sni(m.spiffe))).startswith(b"HTTP/1.1 503")
        writer.transport.abort()


async def test_a_bad_identity_is_rejected_and_the_old_stays() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        good = m.authority.identity(m.name)
        other = m.authority.identity(m.name)
        mixed = c.Identity(name=m.name, spiffe=good.spiffe, certificate=good.certificate, private_key=other.private_key)
        with pytest.raises(Rejected) as refused:
            await m.b.update(mixed)
        assert refused.value.frame.resource == f"identity/{m.name}"
        assert (await w.ask(get())).status == 200


async def test_nothing_is_trusted_before_the_first_trust() -> None:
    async with Backend() as app, ProxyHarness() as p:
        name = "api/y/m"
        listener = p.listener("api")
        await p.update(
            settings("a"), c.Service(name="api", protocol="http"), listener,
            c.Endpoint(
                name=name, id="m", service="api", node="y", address=app.address, inbound=app.address,
                sni=sni(p.authority.spiffe(name)), spiffe=p.authority.spiffe(name),
            ),
        )  # fmt: skip
        await p.control.event("listener_bound", endpoint=listener.name)
        async with Wire(listener.port) as w:
            r = await w.ask(get())
            assert (r.status, "no identity" in r.text) == (503, True)
        assert app.requests == []
