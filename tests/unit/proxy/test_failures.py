"""What clients are told when something fails, and what is tried again."""

import asyncio
import time

import pytest

from policies import compiled as c
from tests.unit.proxy.echo import Backend, Conversation, free_port, ok
from tests.unit.proxy.harness import MeshPair, ProxyHarness, rule
from tests.unit.proxy.wire import Wire, get, post


async def silent(t: Conversation) -> None:
    await t.request()
    await t.closed()


async def test_no_endpoint_and_unknown_service_name_the_service() -> None:
    async with ProxyHarness() as p:
        port = await p.upstream("api")
        async with Wire(port) as w:
            r = await w.ask(get())
            assert (r.status, '"api"' in r.text, "[UH]" in r.text) == (503, True, True)
        unknown = p.listener("ghost")
        await p.update(unknown)
        await p.control.event("listener_bound", endpoint=unknown.name)
        async with Wire(unknown.port) as w:
            r = await w.ask(get())
            assert (r.status, '"ghost"' in r.text, "[NR]" in r.text) == (503, True, True)


async def test_no_route_is_404() -> None:
    async with Backend() as app, ProxyHarness() as p:
        only = rule(match=c.Match(path_exact="/known"))
        async with Wire(await p.upstream("api", app.address, rule=only)) as w:
            assert (await w.ask(get("/known"))).status == 200
            r = await w.ask(get("/other"))
            assert (r.status, "[NR]" in r.text) == (404, True)


async def test_a_broken_leg_says_why() -> None:
    async with ProxyHarness() as p:
        leg = c.Leg(service="api", broken="service-resolver/api has no subset v9")
        port = await p.upstream("api", "127.0.0.1:1", rule=c.Rule(origin="r", legs=(leg,)))
        async with Wire(port) as w:
            r = await w.ask(get())
            assert (r.status, "no subset v9" in r.text) == (503, True)


async def test_connect_failure_without_retries_is_uf_and_with_them_urx() -> None:
    dead = f"127.0.0.1:{free_port()}"
    for retry, flag in ((c.Retry(attempts=0), "UF"), (c.Retry(), "URX")):
        async with ProxyHarness() as p, Wire(await p.upstream("api", dead, rule=rule(retry=retry))) as w:
            r = await w.ask(post("/", b"x"))
            assert (r.status, f"[{flag}]" in r.text) == (503, True), r.text


async def test_a_dead_endpoint_costs_retries_and_no_failures() -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, dead, outlier=c.Outlier(consecutive_failures=1000))
        async with Wire(port) as w:
            for _ in range(30):
                assert (await w.ask(get())).status == 200
        stats = await p.control.scrape()
        attempts = {a.outcome: a.count for a in stats.attempts}
        assert attempts["success"] == 30
        assert attempts["connect_failure"] > 0


async def test_an_endpoint_that_fails_in_a_row_is_ejected_and_restored() -> None:
    dead = f"127.0.0.1:{free_port()}"
    async with Backend() as app, ProxyHarness(threads=2) as p:
        outlier = c.Outlier(consecutive_failures=1, base_ejection_ms=500)
        port = await p.upstream("api", app.address, dead, outlier=outlier)
        async with Wire(port) as w:
            while not any(e.kind == "ejected" for e in p.control.events):
                assert (await w.ask(get())).status == 200
                await asyncio.sleep(0)
        event = await p.control.event("ejected", endpoint="api/x/api-1")
        assert event.service == "api"
        stats = await p.control.scrape()
        assert {e.name: e.ejected for e in stats.endpoints}["api/x/api-1"]
        await p.control.event("restored", endpoint="api/x/api-1")


async def test_the_only_endpoint_is_never_ejected() -> None:
    async def failing(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(ok(status="500 No"))

    async with Backend(failing) as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, outlier=c.Outlier(consecutive_failures=2))
        async with Wire(port) as w:
            assert [(await w.ask(get())).status for _ in range(10)] == [500] * 10
        assert not any(e.kind == "ejected" for e in p.control.events)


async def test_a_request_that_takes_too_long_is_504() -> None:
    async with Backend(silent) as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, rule=rule(timeout_ms=200))
        async with Wire(port) as w:
            began = time.monotonic()
            r = await w.ask(get())
            assert (r.status, "[UT]" in r.text) == (504, True)
            assert 0.15 < time.monotonic() - began < 1.5
        await asyncio.wait_for(app.ended.wait(), 3)


async def test_a_try_that_takes_too_long_is_made_again_elsewhere() -> None:
    async with Backend(silent) as slow, Backend() as app, ProxyHarness() as p:
        limited = rule(timeout_ms=5000, per_try_timeout_ms=100)
        port = await p.upstream("api", slow.address, app.address, rule=limited)
        async with Wire(port) as w:
            for _ in range(10):
                assert (await w.ask(get())).status == 200
        assert slow.requests


async def test_a_reset_before_the_answer_is_retried_only_where_it_is_safe() -> None:
    async def resetting(t: Conversation) -> None:
        await t.request()

    async with Backend(resetting) as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        async with Wire(port) as w:
            r = await w.ask(get())
            assert (r.status, "[URX]" in r.text, len(app.requests)) == (503, True, 3)
        async with Wire(port) as w:
            r = await w.ask(post("/", b"once"))
            assert (r.status, "[UC]" in r.text, len(app.requests)) == (502, True, 4)


async def test_a_kept_body_is_sent_again_whole() -> None:
    seen = 0

    async def once_bad(t: Conversation) -> None:
        nonlocal seen
        while (r := await t.request()) is not None:
            seen += 1
            if seen == 1:
                return
            await t.send(ok(r.body))

    async with Backend(once_bad) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            body = b"y" * 50_000
            assert (await w.ask(post("/", body, method="PUT"))).body == body
        assert [len(r.body) for r in app.requests] == [50_000, 50_000]


async def test_a_large_body_is_not_kept_and_not_sent_again() -> None:
    async def bad(t: Conversation) -> None:
        await t.request()

    async with Backend(bad) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            r = await w.ask(post("/", b"y" * 70_000, method="PUT"))
            assert r.status == 502
        assert len(app.requests) == 1


async def test_an_operators_rule_retries_statuses_within_the_budget() -> None:
    async def failing(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(ok(b"no", status="503 Busy"))

    retry = c.Retry(attempts=1, on=("5xx",), default=False, budget=c.RetryBudget(percent=2000, min_per_second=0))
    async with Backend(failing) as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, rule=rule(retry=retry), outlier=c.Outlier(consecutive_failures=0))
        async with Wire(port) as w:
            for _ in range(50):
                r = await w.ask(post("/", b"x"))
                assert (r.status, r.body) == (503, b"no")
        assert len(app.requests) == 60
        stats = await p.control.scrape()
        assert [(n.name, n.count) for n in stats.retry_budget_exhausted] == [("api", 40)]


async def test_a_peers_own_failure_is_told_apart_from_the_apps() -> None:
    async with MeshPair() as m, Wire(m.port) as w:
        await m.app.stop()
        r = await w.ask(post("/", b"x"))
        assert r.status == 503
        assert r.header("x-meshd-answer") is None
        stats = await m.a.control.scrape()
        assert {a.outcome for a in stats.attempts} == {"peer_503"}
        assert sum(a.count for a in stats.attempts) == 3  # never reached the app: a POST is retried too
        [count] = stats.requests
        assert "UF" in count.flags


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\r\nhost: a\r\nhost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\nhost: a\n\n", 400),
        (b"GET / HTTP/1.1\r\nhost: a\r\nx: " + b"y" * 70_000 + b"\r\n\r\n", 431),
        (b"GET /%2e%2e%2fsecret HTTP/1.1\r\nhost: a\r\n\r\n", 400),
    ],
    ids=["two hosts", "cl and te", "bare lf", "too large", "encoded slash"],
)
async def test_what_is_not_http_is_refused_and_the_connection_ends(data: bytes, status: int) -> None:
    async with Backend() as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            await w.send(data)
            assert (await w.response()).status == status
            assert await w.is_closed()
        assert app.requests == []


async def test_half_a_head_is_given_ten_seconds_and_then_408() -> None:
    async with ProxyHarness() as p:
        port = await p.upstream("api")
        async with Wire(port) as w, Wire(port) as mute:
            began = time.monotonic()
            await w.send(b"GET / HTTP/1.1\r\nhost: a\r\nx-slow: ")
            assert (await w.head()).status == 408
            assert 9 < time.monotonic() - began < 12
            assert await mute.is_closed(), "one that never speaks is closed without a word"
