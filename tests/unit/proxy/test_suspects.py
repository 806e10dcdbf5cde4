"""Endpoints that the registry has lost: only a handshake with their identity lets requests through to them."""

import asyncio
import signal

from policies import compiled as c
from tests.unit.proxy.echo import Backend, Conversation, free_port, ok
from tests.unit.proxy.harness import MeshPair, ProxyHarness
from tests.unit.proxy.test_balance import ask_many, endpoint
from tests.unit.proxy.wire import Wire, eventually, get


async def status(port: int) -> int:
    async with Wire(port) as w:
        return (await w.ask(get())).status


async def proofs(p: ProxyHarness) -> dict[str, str]:
    return {e.name: e.proof for e in (await p.control.scrape()).endpoints}


async def test_a_suspect_serves_while_its_proxy_lives_and_comes_back_with_it() -> None:
    """mTLS: traffic does not blink at the change, ends with the callee's proxy, and comes back with its identity."""
    async with MeshPair() as m:
        assert await status(m.port) == 200
        await m.a.update(m.endpoint(state="suspect"))
        assert [await status(m.port) for _ in range(20)] == [200] * 20
        assert (await proofs(m.a))[m.name] == "good"
        assert not [e for e in m.a.control.events if e.kind.startswith("suspect")], "nothing has changed"

        m.b.process.send_signal(signal.SIGSTOP)
        await m.a.control.event("suspect_bad", endpoint=m.name)
        async with Wire(m.port) as w:
            r = await w.ask(get())
        assert r.status == 503
        assert "api" in r.text, "no endpoint is left, and that is said"
        assert (await proofs(m.a))[m.name] == "bad"
        m.a.control.events.clear()
        m.b.process.send_signal(signal.SIGCONT)
        await m.a.control.event("suspect_good", endpoint=m.name)

        async def served() -> bool:
            return await status(m.port) == 200

        await eventually(served)
        counted = {(p.service, p.result): p.count for p in (await m.a.control.scrape()).probes}
        assert counted["api", "good"] >= 2
        assert counted["api", "bad"] >= 1
        await m.a.update(m.endpoint())
        assert (await proofs(m.a))[m.name] == "", "it is no suspect any more"


async def test_probes_leave_no_trace_at_the_callee() -> None:
    async with MeshPair(protocol="tcp") as m:
        await m.a.update(m.endpoint(state="suspect"))
        await m.a.control.event("suspect_good", endpoint=m.name)
        stats = await m.b.control.scrape()
        assert (stats.tcp, stats.denied, stats.requests) == ((), (), ())
        assert not [e for e in m.b.control.events if e.kind == "tls_failure"]
        assert m.app.connections == 0, "the app was not asked"


async def test_somebody_else_at_a_suspect_s_address_gets_nothing() -> None:
    async with MeshPair() as m:
        stolen = "api/c/api-9"
        other = m.endpoint()
        await m.a.update(
            c.Endpoint(name=stolen, id="api-9", service="api", node="c", address=other.address, inbound=other.inbound,
                       sni=other.sni, spiffe=m.authority.spiffe(stolen), state="suspect"),
            delete=(f"endpoint/{m.name}",),
        )  # fmt: skip
        told = await m.a.control.event("suspect_bad", endpoint=stolen)
        assert "expected" in told.detail
        assert await status(m.port) == 503
        assert not m.app.requests


async def test_a_suspect_without_mtls_is_asked_by_connecting() -> None:
    async def handler(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(ok(b"one"))

    dead = f"127.0.0.1:{free_port()}"
    async with Backend(handler) as one, ProxyHarness() as p:
        port = await p.upstream("api", outlier=c.Outlier(consecutive_failures=1000))
        await p.update(endpoint("api/x/1", one.address, state="suspect"), endpoint("api/x/2", dead, state="suspect"))
        await asyncio.gather(
            p.control.event("suspect_good", endpoint="api/x/1"), p.control.event("suspect_bad", endpoint="api/x/2")
        )
        assert await ask_many(port, 80) == {"one": 80}
        stats = await p.control.scrape()
        assert {e.name: e.failures for e in stats.endpoints} == {"api/x/1": 0, "api/x/2": 0}
