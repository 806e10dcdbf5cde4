"""Who is at the other end: certificates, server names and protocols of peers (security.md classes 14, 15, 16, 42).

Every specimen of the zoo stands once before the inbound port as a client, and once behind it as the server that the
proxy dials; nothing of a request may pass in either case.
"""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from policies import compiled as c
from tests.security import cert_zoo
from tests.security.doors import ENDED, Doors, client_context, load, objects, pem
from tests.unit.proxy.certs import Authority, sni
from tests.unit.proxy.harness import ProxyHarness, settings
from tests.unit.proxy.wire import Wire, get

API = "api/b/api-1"


def good_pem(authority: Authority, uri: str) -> str:
    made = cert_zoo.good(authority.issuer, authority.issuer_key, uri)
    return made.cert_pem + made.key_pem


async def passes(d: Doors, context: ssl.SSLContext, name: str | None) -> bool:
    """Whether a request of this client reaches the app."""
    before = len(d.app.whole)
    try:
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", d.mesh.inbound_port, ssl=context, server_hostname=name or ""
        )
    except ENDED:
        return False
    try:
        writer.write(get("/specimen"))
        await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 5)
    except ENDED:
        pass
    finally:
        writer.transport.abort()
    return len(d.app.whole) > before


async def refusals(proxy: ProxyHarness, count: int) -> list[str]:
    """Why the proxy refused: one event for each."""
    await proxy.control.until(lambda: sum(e.kind == "tls_failure" for e in proxy.control.events) >= count)
    return [e.detail for e in proxy.control.events if e.kind == "tls_failure"]


async def test_specimens_are_nobody_as_clients_cve_2022_40716_cve_2025_66220() -> None:
    everybody = c.Permissions(sources=(c.Source(name="*", origin="test/any", action="allow"),), fallback="allow")
    async with Doors(permissions=everybody) as d:
        authority = d.mesh.authority
        name, passed = sni(d.mesh.spiffe), []
        zoo = cert_zoo.zoo(authority.issuer, authority.issuer_key)
        for specimen in zoo:
            for alpn in ("http/1.1", "meshd-h1"):
                if await passes(d, client_context(specimen.cert_pem + specimen.key_pem, alpn), name):
                    passed.append(f"{specimen.name}: {specimen.why}")
        assert passed == []
        assert len(await refusals(d.mesh.b, 2 * len(zoo))) == 2 * len(zoo)
        objects(d.mesh.b.stderr())
        good = good_pem(authority, authority.spiffe(API))
        assert await passes(d, client_context(good), name), "otherwise the refusals are about something else"


@asynccontextmanager
async def impostor(certificate: str) -> AsyncIterator[tuple[int, list[bytes]]]:
    """A TLS server with this certificate that speaks the proxies' protocol: its port, and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.set_alpn_protocols(["meshd-h1"])
    got: list[bytes] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            got.append(await reader.readuntil(b"\r\n\r\n"))
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            await writer.drain()
        except ENDED:
            pass
        finally:
            writer.transport.abort()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=load(context, certificate))
    try:
        yield server.sockets[0].getsockname()[1], got
    finally:
        server.close()
        await server.wait_closed()


async def called(p: ProxyHarness, listener: int, count: int, certificate: str) -> tuple[int, bool]:
    """Status of a call to an endpoint that shows this certificate, and whether it saw the request."""
    uri = p.authority.spiffe(API)
    async with impostor(certificate) as (port, got):
        place = f"127.0.0.1:{port}"
        endpoint = c.Endpoint(
            name=API, id="api-1", service="api", node="b", address=place, inbound=place, sni=sni(uri), spiffe=uri,
            weight=1 + count,
        )  # fmt: skip
        await p.update(endpoint)
        async with Wire(listener) as w:
            status = (await w.ask(get())).status
    return status, bool(got)


async def test_specimens_are_nobody_as_servers_cve_2021_32574() -> None:
    async with ProxyHarness() as p:
        await p.update(p.authority.trust())
        once = c.Rule(origin="test/once", legs=(c.Leg(service="api"),), retry=c.Retry(attempts=0))
        never = c.Outlier(consecutive_failures=1_000_000)
        service = c.Service(name="api", protocol="http", upstream=c.Upstream(outlier=never))
        listener = p.listener("api")
        await p.update(
            settings("a"), p.authority.identity("web/a/web-1"), service, c.Routes(name="api", rules=(once,)), listener
        )
        await p.control.event("listener_bound", endpoint=listener.name)
        zoo = cert_zoo.zoo(p.authority.issuer, p.authority.issuer_key)
        wrong = []
        for count, specimen in enumerate(zoo):
            found = await called(p, listener.port, count, specimen.cert_pem + specimen.key_pem)
            if found != (503, False):
                wrong.append(f"{specimen.name}: {found}: {specimen.why}")
        assert wrong == []
        others = ("svc/api/n/b/i/api-2", "svc/api/n/c/i/api-1", "svc/web/n/b/i/api-1", "node/b", "svc/api/n/b/i/api-1x")
        for other in others:
            leaf = good_pem(p.authority, f"spiffe://mesh.local/{other}")
            assert await called(p, listener.port, 99, leaf) == (503, False), other
        assert await called(p, listener.port, 100, good_pem(p.authority, p.authority.spiffe(API))) == (200, True)
        assert len(await refusals(p, len(zoo))) >= len(zoo)
        objects(p.stderr())


async def test_server_names_and_protocols_never_weaken_mutual_tls_cve_2026_48491() -> None:
    """No SNI, another one, no certificate, another protocol: refused, whatever stands in Host."""
    async with Doors() as d:
        m = d.mesh
        web = pem(m.authority.instance("web/a/web-1"))
        name, stranger = sni(m.spiffe), pem(Authority().instance("web/a/web-1"))
        cases = {
            "no certificate": ("", name, "http/1.1"),
            "no certificate, proxy": ("", name, "meshd-h1"),
            "another root": (stranger, name, "http/1.1"),
            "no server name": (web, None, "http/1.1"),
            "unknown server name": (web, sni("spiffe://mesh.local/svc/x/n/y/i/z"), "http/1.1"),
            "service as server name": (web, "api.mesh", "http/1.1"),
            "byte relay to an HTTP service": (web, name, "meshd-tcp"),
            "h2": (web, name, "h2"),
            "no protocol": (web, name, ""),
            "no certificate, no server name": ("", None, "http/1.1"),
        }
        for case, (own, server_name, alpn) in cases.items():
            assert not await passes(d, client_context(own, alpn), server_name), case
        old = client_context(web)
        old.maximum_version = ssl.TLSVersion.TLSv1_2
        assert not await passes(d, old, name), "TLS 1.2"
        assert await passes(d, client_context(web), name.upper()), "names are compared without case"


async def test_a_tcp_service_is_not_spoken_to_in_http_and_layer_7_rules_are_never_relayed() -> None:
    """Class 42: the callee's configuration decides the protocol; rules that cannot be checked there deny."""
    path = c.Permission(action="allow", origin="test/path", match=c.Match(path_prefix="/"))
    layer7 = c.Permissions(sources=(c.Source(name="web", origin="test/l7", permissions=(path,)),), fallback="allow")
    for permissions, relayed in ((None, True), (layer7, False)):
        async with Doors(permissions=permissions, protocol="tcp") as d:
            web = pem(d.mesh.authority.instance("web/a/web-1"))
            name = sni(d.mesh.spiffe)
            assert await passes(d, client_context(web, "meshd-tcp"), name) == relayed
            for alpn in ("http/1.1", "meshd-h1", "h2"):
                assert not await passes(d, client_context(web, alpn), name), alpn


def records(flight: bytes, size: int) -> bytes:
    """The same handshake messages in TLS records of `size` bytes."""
    payload = b""
    while flight:
        length = int.from_bytes(flight[3:5])
        assert flight[0] == 22
        payload, flight = payload + flight[5 : 5 + length], flight[5 + length :]
    parts = [payload[i : i + size] for i in range(0, len(payload), size)]
    return b"".join(b"\x16\x03\x01" + len(part).to_bytes(2) + part for part in parts)


async def shake(d: Doors, own: str, size: int) -> bytes:
    """What a client gets whose ClientHello comes in records of `size` bytes, each in a segment of its own."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context(own).wrap_bio(incoming, outgoing, server_hostname=sni(d.mesh.spiffe))
    async with Wire(d.mesh.inbound_port) as w:
        first, asked = True, False
        while True:
            try:
                if not asked:
                    tls.do_handshake()
                    tls.write(get("/fragments"))
                    asked = True
                return tls.read(65536)
            except ssl.SSLWantReadError:
                data = outgoing.read()
            except ssl.SSLError:
                return b""
            try:
                await w.send(records(data, size) if first else data)
                first = False
                if not (got := await asyncio.wait_for(w.reader.read(65536), 5)):
                    return b""
            except ConnectionError:
                return b""
            incoming.write(got)


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_a_client_hello_in_many_records_meets_the_same_demands_cve_2026_32305(size: int) -> None:
    async with Doors() as d:
        web = pem(d.mesh.authority.instance("web/a/web-1"))
        assert (await shake(d, "", size)).startswith(b"HTTP") is False
        assert d.app.whole == []
        whole = await shake(d, web, size)
        assert whole == b"" or whole.startswith(b"HTTP/1.1 200")
        assert await passes(d, client_context(web), sni(d.mesh.spiffe))


async def test_hostile_server_names_stay_in_one_log_line_cve_2024_45808() -> None:
    """The name's bytes replaced in a real ClientHello: line breaks, quotes, NUL, bytes beyond ASCII."""
    async with Doors() as d:
        for evil in (
            b'a"},{"x":"',
            b"a\r\nb: c\r\n",
            b"a\x00b.mesh\x00\x00",
            b"\xff" * 10,
            b"../../../a",
            b"a;b=c'd`e$",
        ):
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            name = "q" * len(evil)
            tls = client_context("").wrap_bio(incoming, outgoing, server_hostname=name)
            with pytest.raises(ssl.SSLWantReadError):
                tls.do_handshake()
            async with Wire(d.mesh.inbound_port) as w:
                await w.send(outgoing.read().replace(name.encode(), evil))
                assert not (await w.rest()).startswith(b"\x16"), "no certificate is shown"
        details = await refusals(d.mesh.b, 6)
        assert not [t for t in details if "\n" in t or "\r" in t or "\x00" in t]
        assert (await d.send("foreign", get())).status == 200
        assert len(await d.logged(1)) == 1
