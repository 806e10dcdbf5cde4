"""HTTP/1.1 through one hop: framing, keep-alive, streaming, cancellation. The backend keeps exactly what it got."""

import asyncio
import json
from pathlib import Path

import pytest

from policies import compiled as c
from tests.unit.proxy.echo import Backend, Conversation, Handler, ok
from tests.unit.proxy.harness import MeshPair, ProxyHarness, rule, settings
from tests.unit.proxy.wire import Wire, eventually, get, post


def resident(p: ProxyHarness) -> int:
    """Resident memory in kB."""
    status = Path(f"/proc/{p.process.pid}/status").read_text()
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS"))


CHUNKED = b"5\r\nhello\r\n6;x=y\r\n world\r\n0\r\nx-trailer: 1\r\n\r\n"


def answering(data: bytes, *, close: bool = False) -> Handler:
    """Answers every request with these bytes."""

    async def handler(t: Conversation) -> None:
        while await t.request() is not None:
            await t.send(data)
            if close:
                return

    return handler


async def test_pipelined_requests_are_answered_in_order() -> None:
    async with Backend() as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            await w.send(get("/1") + post("/2", b"abc") + get("/3"))
            assert [(await w.response()).text.split(" ")[1] for _ in range(3)] == ["/1", "/2", "/3"]
        assert [r.body for r in app.requests] == [b"", b"abc", b""]


async def test_a_head_in_pieces_is_one_request() -> None:
    async with Backend() as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        for piece in (b"GET /pie", b"ces HTTP/1.1\r\nhost: a", b"pi.mesh\r\n\r", b"\n"):
            await w.send(piece)
            await asyncio.sleep(0)
        assert (await w.response()).text.startswith("GET /pieces HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("answer", "status"),
    [
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204),
        (b'HTTP/1.1 304 Not Modified\r\netag: "x"\r\ncontent-length: 10\r\n\r\n', 304),
    ],
)
async def test_answers_without_a_body_keep_the_connection(answer: bytes, status: int) -> None:
    async with Backend(answering(answer)) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            for _ in range(2):
                assert (await w.ask(get())).status == status
        assert app.connections == 1


async def test_head_has_the_length_but_no_body() -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\n")
    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        for _ in range(2):
            r = await w.ask(get(method="HEAD"), to_head=True)
            assert (r.status, r.header("content-length")) == (200, "10")


async def test_chunks_pass_both_ways_with_trailers() -> None:
    async def handler(t: Conversation) -> None:
        while (r := await t.request()) is not None:
            head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
            await t.send(head + r.body[:7])
            await t.send(r.body[7:])

    async with Backend(handler) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            for _ in range(2):
                r = await w.ask(get("/c", "transfer-encoding: chunked", method="POST") + CHUNKED)
                assert r.body == b"hello world"
        assert [r.body for r in app.requests] == [CHUNKED, CHUNKED]


async def test_a_body_until_close_becomes_chunks() -> None:
    async with Backend(answering(b"HTTP/1.1 200 OK\r\n\r\nuntil the end", close=True)) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            for _ in range(2):
                r = await w.ask(get())
                assert (r.body, r.header("transfer-encoding")) == (b"until the end", "chunked")
        assert app.connections == 2


async def test_http_1_0_gets_the_plain_body_and_the_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
    handler = answering(chunked)
    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(b"GET / HTTP/1.0\r\nhost: api\r\n\r\n")
        head = await w.head()
        assert head.header("transfer-encoding") is None
        assert await w.rest() == b"abc"


async def test_continue_is_asked_of_the_app_and_told_to_the_client() -> None:
    async def handler(t: Conversation) -> None:
        r = await t.request(body=False)
        assert r is not None
        assert r.header("expect") == "100-continue"
        await t.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        await t.send(ok(await t.body(r)))
        await t.closed()

    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(get("/e", "content-length: 4", "expect: 100-continue", method="PUT"))
        assert (await w.response()).status == 100
        assert (await w.ask(b"body")).body == b"body"


async def test_interim_answers_pass_before_the_final_one() -> None:
    interim = b"HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n"
    handler = answering(interim + interim + ok())
    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        for _ in range(2):
            assert [(await w.ask(get())).status, (await w.response()).status, (await w.response()).status] == [
                103,
                103,
                200,
            ]


@pytest.mark.parametrize("pair", [False, True], ids=["hop", "pair"])
async def test_large_bodies_stream_both_ways(pair: bool) -> None:
    body = bytes(range(256)) * 12_000  # 3 MB

    async def handler(t: Conversation) -> None:
        while (r := await t.request()) is not None:
            await t.send(ok(r.body))

    async def check(port: int) -> None:
        async with Wire(port) as w:
            for _ in range(2):
                sending = asyncio.gather(w.send(post("/big", body)))
                assert (await w.response()).body == body
                await sending

    if pair:
        async with MeshPair(handler=handler) as m:
            await check(m.port)
    else:
        async with Backend(handler) as app, ProxyHarness() as p:
            await check(await p.upstream("api", app.address))


async def test_a_slow_reader_stops_the_sender_and_not_the_memory() -> None:
    sent = 0

    async def handler(t: Conversation) -> None:
        nonlocal sent
        await t.request()
        await t.send(b"HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n")
        while True:
            await t.send(b"x" * 65536)
            sent += 65536

    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(get())
        await w.head()
        before = -1
        while sent != before:  # until the kernel's buffers are full everywhere
            before = sent
            await asyncio.sleep(0.3)  # sleep: nothing tells that nothing more comes
        rss = resident(p)
        assert sent < 100_000_000
        assert rss < 60_000, f"{rss} kB"


@pytest.mark.parametrize("pair", [False, True], ids=["hop", "pair"])
async def test_a_client_that_leaves_cancels_its_request_at_once(pair: bool) -> None:
    got: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def handler(t: Conversation) -> None:
        await t.request()
        got.set_result(await t.closed())

    async def check(port: int, app: Backend) -> None:
        async with Wire(port) as w:
            await w.send(get())
            await app.arrived.wait()
        assert await asyncio.wait_for(got, 3) == b""

    if pair:
        async with MeshPair(handler=handler) as m:
            await check(m.port, m.app)
    else:
        async with Backend(handler) as app, ProxyHarness() as p:
            await check(await p.upstream("api", app.address), app)


async def test_a_client_that_leaves_while_it_sends_cancels_too() -> None:
    async def handler(t: Conversation) -> None:
        await t.request(body=False)
        await t.closed()

    async with Backend(handler) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            await w.send(get("/", "content-length: 100", method="POST") + b"part")
            await app.arrived.wait()
        await asyncio.wait_for(app.ended.wait(), 3)


async def test_an_answer_before_the_end_of_the_request_passes_and_ends_both() -> None:
    async def handler(t: Conversation) -> None:
        await t.request(body=False)
        await t.send(ok(b"too large", status="413 Content Too Large"))
        await t.closed()

    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(get("/", "content-length: 100000", method="POST") + b"x" * 1000)
        r = await w.response()
        assert (r.status, r.body, r.header("connection")) == (413, b"too large", "close")
        assert await w.is_closed()


async def test_a_body_cut_short_is_not_passed_off_as_whole() -> None:
    handler = answering(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nshort", close=True)
    async with Backend(handler) as app, ProxyHarness() as p, Wire(await p.upstream("api", app.address)) as w:
        await w.send(get())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionResetError)):
            await w.response()


async def test_bytes_behind_an_answer_are_nobodys_answer() -> None:
    evil = ok() + ok(b"evil")
    async with Backend(answering(evil)) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            assert [(await w.ask(get())).body for _ in range(2)] == [b"ok", b"ok"]
        assert app.connections == 2


async def test_a_local_answer_does_not_leave_the_body_as_the_next_request() -> None:
    """Pingora CVE-2025-4366: bytes of an unread body must never be parsed."""
    inner = get("/smuggled")
    async with ProxyHarness() as p:
        port = await p.upstream("api")
        async with Wire(port) as w:
            r = await w.ask(post("/", inner))
            assert (r.status, "UH" in r.text) == (503, True)
            assert (await w.ask(get("/second"))).status == 503
        async with Wire(port) as w:
            await w.send(get("/", f"content-length: {len(inner) + 10}", method="POST") + inner)
            r = await w.response()
            assert (r.status, r.header("connection")) == (503, "close")
            assert await w.is_closed()
        stats = await p.control.scrape()
        assert sum(s.count for s in stats.requests) == 3


async def test_the_app_closing_an_idle_connection_fails_nobody() -> None:
    async with Backend(answering(ok(), close=True)) as app, ProxyHarness() as p:
        async with Wire(await p.upstream("api", app.address)) as w:
            for _ in range(20):
                assert (await w.ask(get())).status == 200
        assert app.connections == 20


async def test_trace_context_is_continued_or_begun() -> None:
    trace = "0af7651916cd43dd8448eb211c80319c"
    async with MeshPair() as m, Wire(m.port) as w:
        await w.ask(get("/", f"traceparent: 00-{trace}-b7ad6b7169203331-01"))
        await w.ask(get("/"))
        first, second = (r.header("traceparent") or "" for r in m.app.requests)
        assert first.split("-")[1] == trace
        assert first.split("-")[2] != "b7ad6b7169203331"
        assert first.endswith("-01")
        assert len(second) == 55


async def test_the_access_log_has_one_json_line_per_request(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address)
        await p.update(settings("a", access_log=c.AccessLog(path=str(path))))
        async with Wire(port) as w:
            await w.ask(get('/a"b', method="GET"))
            await w.send(b"BROKEN\r\n\r\n")
            assert (await w.response()).status == 400

        async def written() -> bool:
            return path.exists() and path.read_text().count("\n") >= 2

        await eventually(written)
        first, second = (json.loads(line) for line in path.read_text().splitlines())
        assert (first["path"], first["code"], first["source"], first["destination"]) == ('/a"b', 200, "web", "api")
        assert first["endpoint"] == "api/x/api-0"
        assert (second["code"], second["flags"]) == (400, "DPE")


async def test_edits_and_rewrite_of_the_rule_reach_the_app() -> None:
    edited = rule(
        prefix_rewrite="/inner",
        match=c.Match(path_prefix="/outer"),
        request_headers=c.HeaderEdit(set=(("x-set", "1"),), remove=("x-gone",), add=(("x-add", "2"),)),
        response_headers=c.HeaderEdit(set=(("x-answer", "3"),)),
    )
    async with Backend() as app, ProxyHarness() as p:
        port = await p.upstream("api", app.address, rule=edited)
        async with Wire(port) as w:
            r = await w.ask(get("/outer/x?q=1", "x-gone: 1", "x-set: 0"))
            assert r.header("x-answer") == "3"
        got = app.requests[0]
        assert (got.target, got.all("x-set"), got.header("x-gone"), got.header("x-add")) == (
            "/inner/x?q=1",
            ["1"],
            None,
            "2",
        )
