"""Injected faults: delay and abort on the caller's side, ended by the proxy's own clock."""

import time

from policies import compiled as c
from tests.unit.proxy.echo import Backend
from tests.unit.proxy.harness import ProxyHarness
from tests.unit.proxy.wire import Wire, eventually, get


def fault(until: float = 60, **fields: object) -> c.Fault:
    ends = int((time.time() + until) * 1000)
    return c.Fault(origin="fault/test#@1", until_ms=ends, **fields)  # type: ignore[arg-type]  # passed on as given


async def test_a_delayed_request_waits_and_holds_up_nobody_else() -> None:
    slow = fault(delay=c.Delay(min_ms=400, max_ms=400), header="x-slow")
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, faults=(slow,))
        async with Wire(port) as w, Wire(port) as other:
            began = time.monotonic()
            await w.send(get("/", "x-slow: 1"))
            for _ in range(20):
                assert (await other.ask(get())).status == 200
            assert time.monotonic() - began < 0.35
            assert (await w.response()).status == 200
            assert time.monotonic() - began >= 0.38
        stats = await p.control.scrape()
        assert sorted((s.flags, s.count) for s in stats.requests) == [("", 20), ("DI", 1)]


async def test_a_client_that_leaves_ends_its_delay() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, faults=(fault(delay=c.Delay(min_ms=60_000, max_ms=60_000)),))
        async with Wire(port) as w:
            await w.send(get())

        async def ended() -> bool:
            return (await p.control.scrape()).connections == 0

        await eventually(ended)
        assert app.requests == []


async def test_an_abort_answers_or_resets() -> None:
    aborts = (fault(abort=c.Abort(status=418), header="x-teapot"), fault(abort=c.Abort(reset=True), header="x-reset"))
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, faults=aborts)
        async with Wire(port) as w:
            r = await w.ask(get("/", "x-teapot: 1"))
            assert (r.status, "[FI]" in r.text) == (418, True)
            assert (await w.ask(get())).status == 200
            await w.send(get("/", "x-reset: 1"))
            assert await w.is_closed()
        assert len(app.requests) == 1


async def test_an_experiment_ends_itself() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, faults=(fault(until=0.8, abort=c.Abort(status=500)),))
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 500

            async def over() -> bool:
                return (await w.ask(get())).status == 200

            await eventually(over)
