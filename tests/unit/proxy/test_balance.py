"""Which endpoint gets a request: splits, states, and endpoints that die under load."""

import asyncio
from collections import Counter

from policies import compiled as c
from tests.unit.proxy.certs import sni
from tests.unit.proxy.echo import Backend, Conversation, free_port, ok
from tests.unit.proxy.harness import MeshPair, ProxyHarness, rule
from tests.unit.proxy.wire import Wire, eventually, get


def named(name: bytes) -> Backend:
    async def handler(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(ok(name))

    return Backend(handler)


def endpoint(name: str, address: str, **fields: object) -> c.Endpoint:
    service, node, id_ = name.split("/")
    place = {"id": id_, "service": service, "node": node, "address": address}
    return c.Endpoint(name=name, **place, **fields)  # type: ignore[arg-type]  # passed on as given


async def ask_many(port: int, n: int) -> Counter[str]:
    """`n` requests by eight clients at once: what is in flight spreads them."""

    async def client() -> list[str]:
        async with Wire(port) as w:
            return [(await w.ask(get())).text for _ in range(n // 8)]

    texts = await asyncio.gather(*(client() for _ in range(8)))
    return Counter(t for some in texts for t in some)


async def test_a_split_shares_by_its_weights() -> None:
    legs = (c.Leg(service="api", subset="v1", weight=9000), c.Leg(service="api", subset="v2", weight=1000))
    async with named(b"one") as one, named(b"two") as two, ProxyHarness() as p:
        port = await p.upstream("api", rule=c.Rule(origin="split", legs=legs))
        await p.update(
            endpoint("api/x/1", one.address, subsets=("v1",)), endpoint("api/x/2", two.address, subsets=("v2",))
        )
        got = await ask_many(port, 1000)
        assert 50 < got["two"] < 170
        assert got["one"] + got["two"] == 1000


async def test_states_decide_who_is_asked() -> None:
    async with named(b"one") as one, named(b"two") as two, ProxyHarness() as p:
        port = await p.upstream("api")

        async def both_asked() -> bool:
            return len(await ask_many(port, 16)) == 2

        await p.update(endpoint("api/x/1", one.address), endpoint("api/x/2", two.address))
        await eventually(both_asked)
        for state in ("critical", "draining"):
            await p.update(endpoint("api/x/2", two.address, state=state))
            assert await ask_many(port, 80) == {"one": 80}, state
            for state_again in ("passing", "suspect", "warning"):
                await p.update(endpoint("api/x/2", two.address, state=state_again))
                # a slow answer may keep it out for a moment: latency decides among those that take requests
                await eventually(both_asked)


async def test_an_app_killed_under_load_fails_no_request() -> None:
    """Two instances behind mTLS, eight keep-alive clients, two data threads; one app dies."""
    async with MeshPair(threads=2, rule=rule()) as m, Backend() as second:
        name = "api/b/api-2"
        spiffe = m.authority.spiffe(name)
        inbound = c.Inbound(
            name=name, service="api", app=second.address, sni=sni(spiffe), protocol="http", permissions=m.permissions
        )
        await m.b.update(m.authority.identity(name), inbound)
        await m.a.update(
            endpoint(name, second.address, inbound=f"127.0.0.1:{m.inbound_port}", sni=sni(spiffe), spiffe=spiffe)
        )
        killed = asyncio.Event()
        statuses: Counter[int] = Counter()

        async def client() -> None:
            async with Wire(m.port) as w:
                for i in range(250):
                    statuses[(await w.ask(get())).status] += 1
                    if i == 100:
                        killed.set()

        async def killer() -> None:
            await killed.wait()
            await second.stop()

        await asyncio.gather(killer(), *(client() for _ in range(8)))
        assert statuses == {200: 2000}
        assert second.requests
        await m.a.control.event("ejected", endpoint=name)


async def test_a_proxy_killed_under_load_fails_no_get_when_there_is_another() -> None:
    async with MeshPair() as m, named(b"other") as other, ProxyHarness(node="c", authority=m.authority) as third:
        name = "api/c/api-3"
        spiffe, port = m.authority.spiffe(name), free_port()
        await third.update(m.authority.trust())
        settings = c.Settings(name="settings", node="c", inbound_address="127.0.0.1", inbound_port=port)
        inbound = c.Inbound(
            name=name, service="api", app=other.address, sni=sni(spiffe), protocol="http", permissions=m.permissions
        )
        await third.update(settings, m.authority.identity(name), inbound)
        await third.control.event("listener_bound", endpoint="inbound")
        await m.a.update(endpoint(name, other.address, inbound=f"127.0.0.1:{port}", sni=sni(spiffe), spiffe=spiffe))
        async with Wire(m.port) as w:
            for i in range(300):
                if i == 100:
                    third.process.kill()
                assert (await w.ask(get())).status == 200
