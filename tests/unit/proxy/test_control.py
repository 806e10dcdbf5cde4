"""The control socket: atomic updates on every thread, listeners, drains, the saved set, telemetry."""

import asyncio
import stat
import time

import msgspec
import pytest

from policies import compiled as c
from tests.unit.proxy.echo import Backend, Conversation, ok
from tests.unit.proxy.harness import Control, MeshPair, ProxyHarness, Rejected, rule, settings
from tests.unit.proxy.wire import Wire, eventually, get


async def refused(port: int) -> bool:
    """Nobody listens there."""
    try:
        async with Wire(port):
            return False
    except ConnectionRefusedError:
        return True


async def test_hello_says_what_the_proxy_is_and_holds() -> None:
    async with ProxyHarness() as p:
        hello = p.control.hello
        assert hello is not None
        assert (hello.schema, hello.generation, hello.pid, hello.holds) == (c.SCHEMA, 1, p.process.pid, {})
        await p.update(settings())
        again = await Control(p.socket).open()
        assert again.hello is not None
        assert list(again.hello.holds) == ["settings/settings"]
        await p.control.until(lambda: p.control.closed)
        await again.close()
        assert stat.S_IMODE(p.socket.stat().st_mode) == 0o600


async def test_an_update_is_in_force_on_every_thread_when_it_is_applied() -> None:
    async with Backend() as app, ProxyHarness(threads=3) as p:
        port = await p.upstream("api", app.address)
        wires = [Wire(port) for _ in range(12)]
        for w in wires:
            await w.__aenter__()
            assert (await w.ask(get())).status == 200
        for i in range(10):
            leg = c.Leg(service="api", broken="off" if i % 2 == 0 else None)
            await p.update(c.Routes(name="api", rules=(c.Rule(origin="r", legs=(leg,)),)))
            want = 503 if i % 2 == 0 else 200
            assert {(await w.ask(get())).status for w in wires} == {want}
        for w in wires:
            await w.__aexit__(None, None, None)


async def test_a_rejected_update_changes_nothing() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        bad = c.Match(path_regex="(")
        with pytest.raises(Rejected) as refused:
            await p.update(settings(trace_sampling=5), c.Routes(name="api", rules=(rule(match=bad),)))
        assert refused.value.frame.resource == "routes/api"
        assert "rules[0].match" in refused.value.frame.path
        shown = {f"{r['kind']}/{r['name']}": r for r in await p.control.dump()}
        assert shown["settings/settings"].get("trace_sampling", 0) == 0
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 200


async def test_an_unknown_field_is_refused_with_its_path() -> None:
    async with ProxyHarness() as p:
        frame = b'{"type":"update","update":9,"put":[{"kind":"service","name":"api","colour":"red"}]}'
        await p.control.send_raw(frame)
        with pytest.raises(Rejected) as refused:
            await p.control.applied(9)
        assert "colour" in str(refused.value)
        await p.control.send_raw(b'{"type":"update","update":10,"colour":"red"}')
        with pytest.raises(Rejected):
            await p.control.applied(10)
        await p.update(settings())


async def test_private_keys_are_never_shown() -> None:
    async with MeshPair() as m:
        text = msgspec.json.encode(await m.b.control.dump()).decode()
        assert "PRIVATE KEY" not in text
        assert "sha256:" in text
        assert "PRIVATE KEY" not in m.b.stderr()


async def test_listeners_come_and_go_with_updates() -> None:
    async with Backend() as app, ProxyHarness(threads=2) as p:
        port = await p.upstream("api", app.address)
        name = "web/a/web-1:api"
        async with Wire(port) as idle:
            assert (await idle.ask(get())).status == 200
            await p.update(delete=(f"listener/{name}",))
            assert await idle.is_closed(), "nobody may call by a listener that is gone"
        await eventually(lambda: refused(port))


async def test_a_taken_port_is_told_and_bound_when_it_is_free() -> None:
    async with Backend() as app, ProxyHarness(threads=2) as p:
        await p.upstream("api", app.address)
        async with Backend() as holder:
            listener = p.listener("api", caller="shop", port=holder.port)
            await p.update(listener)
            failed = await p.control.event("listener_failed", endpoint=listener.name)
            assert str(holder.port) in failed.detail
        await p.control.event("listener_bound", endpoint=listener.name)
        async with Wire(listener.port) as w:
            assert (await w.ask(get())).status == 200


async def test_the_saved_set_serves_when_no_meshd_dials() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        saved = p.run_dir / "proxy" / "last.json"

        async def is_saved() -> bool:
            return saved.exists() and "listener" in saved.read_text()

        await eventually(is_saved)
        assert stat.S_IMODE(saved.stat().st_mode) == 0o600
        await p.control.close()
        p.process.kill()
        await p.process.wait()
        p.socket.unlink()
        p.dial = False
        began = time.monotonic()
        await p.start()

        async def serves() -> bool:
            return not await refused(port)

        await eventually(serves)
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 200
        assert time.monotonic() - began > 2.5
        p.control = await Control(p.socket).open()
        assert p.control.hello is not None
        assert "service/api" in p.control.hello.holds


async def test_sigterm_finishes_requests_and_ends() -> None:
    go = asyncio.Event()

    async def slow(t: Conversation) -> None:
        await t.request()
        await go.wait()
        await t.send(ok(b"done"))
        await t.closed()

    async with Backend(slow) as app, ProxyHarness(threads=2) as p:
        port = await p.upstream("api", app.address)
        async with Wire(port) as busy, Wire(port) as idle:
            await busy.send(get())
            await app.arrived.wait()
            p.terminate()
            assert await idle.is_closed()
            with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
                async with Wire(port) as late:
                    await late.ask(get())
            go.set()
            r = await busy.response()
            assert (r.body, r.header("connection")) == (b"done", "close")
        assert await asyncio.wait_for(p.process.wait(), 5) == 0
        assert p.control.events[-1].kind == "drained"
        assert not p.socket.exists()


async def test_a_drain_ends_at_its_deadline() -> None:
    async def never(t: Conversation) -> None:
        await t.request()
        await t.closed()

    async with Backend(never) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(get())
        await app.arrived.wait()
        await p.control.send(c.Drain(scope="proxy", seconds=0.3))
        assert await asyncio.wait_for(p.process.wait(), 5) == 0


async def test_a_draining_instance_takes_no_new_work() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        assert (await w.ask(get())).status == 200
        await m.b.control.send(c.Drain(scope="instance", name=m.name, seconds=5))
        await m.b.control.event("drained", endpoint=m.name)
        assert (await w.ask(get())).status == 503


async def test_stats_come_each_second_and_add_up_over_threads() -> None:
    async with Backend() as app, ProxyHarness(threads=3) as p:
        port = await p.upstream("api", app.address)
        for _ in range(20):
            async with Wire(port) as w:
                assert (await w.ask(get())).status == 200
        stats = await p.control.scrape()
        [r] = stats.requests
        assert (r.reporter, r.source, r.destination, r.method, r.code, r.flags, r.count) == (
            "source", "web", "api", "GET", 200, "", 20,
        )  # fmt: skip
        [d] = stats.durations
        assert sum(d.buckets) == 20
        assert len(d.buckets) == len(c.BUCKETS) + 1
        assert [(n.name, n.count) for n in stats.rules] == [("default#route", 20)]
        [e] = stats.endpoints
        assert (e.name, e.successes, e.inflight) == ("api/x/api-0", 20, 0)
        assert abs(e.last_success - time.time()) < 5
        before = len(p.control.stats)
        await p.control.until(lambda: len(p.control.stats) > before)
        assert p.control.stats[-1].id == 0


async def test_traffic_goes_on_while_meshd_is_gone_or_frozen() -> None:
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        frozen = await Control(p.socket).open()
        frozen._task.cancel()  # it reads nothing more
        async with Wire(port) as w:
            for _ in range(200):
                assert (await w.ask(get())).status == 200
        again = await Control(p.socket).open()
        assert again.hello is not None
        await again.update(settings())
        await again.close()
        frozen.writer.close()
        async with Wire(port) as w:
            assert (await w.ask(get())).status == 200
