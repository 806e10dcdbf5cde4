"""One hop and a pair, end to end."""

from tests.unit.proxy.echo import Backend
from tests.unit.proxy.harness import MeshPair, ProxyHarness
from tests.unit.proxy.wire import Wire, get


async def test_a_request_passes_one_plain_hop() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        async with Wire(port) as w:
            for i in range(3):
                r = await w.ask(get(f"/x?{i}"))
                assert r.status == 200
                assert r.text.startswith(f"GET /x?{i} HTTP/1.1\r\n")
        assert app.connections == 1


async def test_a_request_passes_a_pair_over_mutual_tls() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        for i in range(3):
            r = await w.ask(get(f"/x?{i}"))
            assert r.status == 200
        assert m.app.requests[0].header("x-meshd-source") == m.authority.spiffe("web/a/web-1")
        stats = await m.b.control.scrape()
        assert [(s.reporter, s.source, s.destination, s.code, s.count) for s in stats.requests] == [
            ("destination", "web", "api", 200, 3)
        ]
