"""Headers that claim what only the proxy may say, or take away what it says (security.md classes 3, 4, 7, 8, 9).

The app has to be able to believe `x-meshd-source`, and a proxy its peer's marks; nobody else can write them.
"""

from itertools import product

import pytest

from policies import compiled as c
from tests.security.doors import SIDES, Doors, ends, request
from tests.unit.proxy.echo import Conversation, Request, ok
from tests.unit.proxy.harness import Rejected
from tests.unit.proxy.wire import get

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"
OURS = ("x-meshd-source", "x-meshd-answer", "x-meshd-attempt", "x-meshd-anything", "x-forwarded-client-cert")
EVIL = "evil-1f3a"


def spellings(name: str) -> list[str]:
    """How else a backend may be brought to read this name."""
    return [name, name.upper(), name.title(), name.replace("-", "_"), name.replace("-", "_", 1).upper()]


def believed(r: Request, d: Doors, side: str) -> list[str]:
    """What the app must find as the caller's identity: nothing where there is no proxy in front of the app."""
    return [] if side == "hop" else [d.mesh.authority.spiffe("web/a/web-1")]


@pytest.mark.parametrize("side", SIDES)
async def test_identity_and_internal_headers_cannot_be_spoofed_cve_2023_27487(side: str) -> None:
    async with Doors() as d:
        for name in (s for ours in OURS for s in spellings(ours)):
            seen = await d.send(side, get("/", f"{name}: {EVIL}", "x-good: 1", f"{name}: {EVIL}", f"{name}:"))
            [r] = seen.requests
            assert EVIL.encode() not in r.head, name
            assert r.all("x-meshd-source") == believed(r, d, side), name
            assert [line for line in r.head.lower().splitlines() if b"meshd" in line.replace(b"_", b"-")] == [
                f"x-meshd-source: {source}".encode() for source in believed(r, d, side)
            ], name
            assert r.header("x-good") == "1", name


@pytest.mark.parametrize("side", SIDES)
async def test_addresses_that_others_claim_are_not_believed_cve_2024_45806(side: str) -> None:
    """A caller that says it came from a private network gets the rights of its certificate, no others."""
    deny = c.Permissions(sources=(c.Source(name="web", origin="test/deny", action="deny"),))
    claims = ("x-forwarded-for: 127.0.0.1", "x-real-ip: 10.0.0.1", "forwarded: for=10.0.0.1", "x-envoy-internal: true")
    async with Doors(permissions=deny) as d:
        if side == "hop":
            return
        for claim in (*claims, "x-meshd-source: spiffe://mesh.local/svc/admin/n/a/i/1"):
            seen = await d.send(side, get("/", claim))
            assert (seen.status, seen.requests) == (403, []), claim


@pytest.mark.parametrize("side", SIDES)
async def test_connection_strips_nothing_of_ours_cve_2024_45410_cve_2026_105299(side: str) -> None:
    names = ("x-meshd-source", "X-Meshd-Source", "traceparent", "tracestate", "Host", "Content-Length", "connection")
    shapes = (
        "Connection: {}",
        "Connection: close, {}",
        "connection: {},{}",
        "Connection: keep-alive\r\nConnection: {}",
    )
    async with Doors() as d:
        for name, shape in product(names, shapes):
            raw = get("/", shape.format(name, name), f"traceparent: {PARENT}", "content-length: 3", method="POST")
            seen = await d.send(side, raw + b"abc")
            [r] = seen.requests
            case = shape.format(name, name)
            assert (r.all("host"), r.all("content-length"), r.body) == (["api.mesh"], ["3"], b"abc"), case
            assert r.all("x-meshd-source") == believed(r, d, side), case
            [parent] = r.all("traceparent")
            assert parent.split("-")[1] == TRACE, case


@pytest.mark.parametrize("side", SIDES)
async def test_hop_by_hop_headers_end_at_the_proxy(side: str) -> None:
    lines = (
        "Connection: x-private, upgrade, te", "x-private: 1", "X-PRIVATE: 2", "upgrade: h2c", "te: trailers",
        "keep-alive: timeout=9", "proxy-connection: keep-alive", "proxy-authorization: Basic eA==",
        "http2-settings: AAMAAABkAAQAAP__", "x-public: 1",
    )  # fmt: skip
    async with Doors() as d:
        [r] = (await d.send(side, get("/", *lines))).requests
        for gone in ("connection", "x-private", "upgrade", "te", "keep-alive", "proxy-connection", "http2-settings"):
            assert r.all(gone) == [], gone
        assert r.all("proxy-authorization") == []
        assert r.header("x-public") == "1"
        many = "Connection: " + ", ".join(f"x-{i}" for i in range(50))
        assert (await d.send(side, get("/", many))).status == 400


@pytest.mark.parametrize("side", SIDES)
async def test_trace_context_is_one_and_well_formed(side: str) -> None:
    bad = {
        "two": [f"traceparent: {PARENT}", f"traceparent: {PARENT.replace('0af', 'fff')}"],
        "upper-duplicate": [f"traceparent: {PARENT}", f"TRACEPARENT: {PARENT}"],
        "garbage": ['traceparent: "><script>'],
        "longer": [f"traceparent: {PARENT}-x"],
        "zero": [f"traceparent: 00-{'0' * 32}-b7ad6b7169203331-01"],
        "high": ["traceparent: \xff\xfe"],
        "empty": ["traceparent:"],
    }
    async with Doors() as d:
        for name, lines in bad.items():
            [r] = (await d.send(side, get("/", *lines, "tracestate: a=b"))).requests
            [parent] = r.all("traceparent")
            assert (len(parent), TRACE in parent, r.all("tracestate")) == (55, False, []), name
        [r] = (await d.send(side, get("/", f"TraceParent: {PARENT}", "TraceState: a=b"))).requests
        assert r.all("traceparent")[0].split("-")[1] == TRACE
        assert r.all("tracestate") == ["a=b"]


@pytest.mark.parametrize("side", SIDES)
async def test_an_app_cannot_answer_as_a_proxy(side: str) -> None:
    """A mark of the app must neither reach the client nor lead to another try."""
    marks = [f"{name}: UH" for name in spellings("x-meshd-answer")] + ["x-meshd-source: evil"]
    tries = iter(marks)

    async def handler(talk: Conversation) -> None:
        while await talk.request() is not None:
            await talk.send(ok(b"no", next(tries), "x-good: 1", status="503 Service Unavailable"))

    async with Doors(handler=handler) as d:
        for count, mark in enumerate(marks, 1):
            async with d.open(side) as w:
                r = await w.ask(get())
                assert (r.status, r.header("x-good"), b"meshd" in r.head.lower().replace(b"_", b"-")) == (
                    503, "1", False,
                ), mark  # fmt: skip
            assert len(d.mesh.app.requests) == count, "asked once"


@pytest.mark.parametrize("side", ["hop", "pair", "foreign"])
async def test_marks_between_proxies_end_at_every_edge(side: str) -> None:
    """The proxy's own refusals: marked for the next proxy, never for an app or a foreign client."""
    deny = c.Permissions(sources=(c.Source(name="web", origin="test/deny", action="deny"),))
    async with Doors(permissions=deny) as d:
        for raw in (get(), get("/%2f"), b"BROKEN\r\n\r\n", get("/", "content-length: x")):
            async with d.open(side) as w:
                r = await w.ask(raw)
                assert (r.status in (200, 400, 403), b"x-meshd" in r.head.lower()) == (True, False)


UPGRADE = get("/ws", "Connection: upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")


@pytest.mark.parametrize("side", SIDES)
async def test_bytes_after_upgrade_wait_for_101_cve_2026_2833(side: str) -> None:
    """Whatever the app answers, it never gets the next request as bytes of a protocol that it did not agree to."""
    answers = {101: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n"}
    answers |= {200: ok(b"no"), 404: ok(b"no", status="404 Not Found")}
    for status, answer in answers.items():

        async def handler(talk: Conversation, answer: bytes = answer) -> None:
            first = await talk.request()
            assert first is not None
            assert first.header("upgrade") is None
            await talk.send(answer)
            while await talk.request() is not None:
                await talk.send(ok(b"second"))

        async with Doors(handler=handler) as d, d.open(side) as w:
            await w.send(UPGRADE + get("/next"))
            r = await w.response()
            assert r.status == (502 if status == 101 else status)
            second = [q for q in d.mesh.app.requests if q.target == "/next"]
            if status == 101:
                assert await _no_poison(d, side)
                continue
            assert (await w.response()).body == b"second"
            assert len(second) <= 1


async def _no_poison(d: Doors, side: str) -> bool:
    """The connection on which the app thinks it switched is never used again."""
    before = d.mesh.app.connections
    async with d.open(side) as w:
        await w.ask(get("/other"))
    return d.mesh.app.connections > before


@pytest.mark.parametrize("side", ["pair", "foreign", "peer"])
async def test_an_unread_body_is_not_the_next_request_cve_2025_4366(side: str) -> None:
    deny = c.Permissions(sources=(c.Source(name="web", origin="test/deny", action="deny"),))
    inner = get("/inner")
    chunked = request("Transfer-Encoding: chunked", body=b"%x\r\n" % len(inner) + inner + b"\r\n")
    sized = request(f"Content-Length: {len(inner) + 5}", body=inner)
    async with Doors(permissions=deny) as d:
        for raw in (chunked, sized):
            async with d.open(side) as w:
                await w.send(raw)
                r = await w.response()
                assert (r.status, await ends(w) if side != "pair" else True) == (403, True)
        async with d.open(side) as w:
            await w.send(request(f"Content-Length: {len(inner)}", body=inner) + get("/second"))
            assert [(await w.response()).status for _ in range(2)] == [403, 403]
        lines = await d.logged(4)
        assert "/inner" not in {line["path"] for line in lines}


@pytest.mark.parametrize("side", SIDES)
async def test_hostile_strings_stay_in_one_log_line_cve_2024_45808(side: str) -> None:
    evil = '/"},{"code":200,"x":"\\n%0d%0a;=\'' + "\u2028".encode().decode("latin-1")
    async with Doors() as d:
        await d.send(side, get('/"quoted"/%22;a=b,{}\'', 'user-agent: "\t\xff', host="api.mesh"))
        assert (await d.send(side, get(evil))).status == 400
        assert (await d.send(side, request(method='A"B'))).status == 400
        await d.send(side, request(method="A|B'", target="/x"))
        lines = await d.logged(4 if side in ("foreign", "peer", "hop") else 6)
        assert '/"quoted"/%22;a=b,{}\'' in {line["path"] for line in lines}
        assert {"A|B'", "OTHER"} & {line["method"] for line in lines}


EDITS = (
    ("x-a", "b\r\nx: y"), ("x-a", "b\nc"), ("x-a", "b\x00"), ("x a", "b"), ("x-a:", "b"), ("x-meshd-source", "b"),
    ("host", "b"), ("content-length", "0"), ("Transfer_Encoding", "chunked"),
)  # fmt: skip


async def test_header_edits_cannot_inject_ghsa_w5w5_487h_qv8q() -> None:
    """A store writer's strings reach the wire only if they are one header line."""
    async with Doors() as d:
        for name, value in EDITS:
            edit = c.HeaderEdit(set=((name, value),))
            rule = c.Rule(origin="test/rule@1", legs=(c.Leg(service="plain"),), request_headers=edit)
            with pytest.raises(Rejected):
                await d.mesh.a.update(c.Routes(name="plain", rules=(rule,)))
        assert (await d.send("hop", get())).status == 200
