"""Too much and too slow (security.md classes 23 and 24): a bounded answer, bounded memory, and nobody else waits.

The times are the proxy's own: 5 s for a handshake, 10 s for a head, 30 s for a body that does not move; so all that
is slow runs at the same time.
"""

import asyncio
import resource
import ssl
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from policies import compiled as c
from tests.security.doors import ENDED, SIDES, Doors, client_context, request
from tests.unit.proxy.certs import sni
from tests.unit.proxy.echo import Conversation, ok
from tests.unit.proxy.harness import ProxyHarness, rule
from tests.unit.proxy.wire import Wire, get

HEAD, FIELDS = 64 * 1024, 128
MORE_HEAD, MORE_FIELDS = HEAD + 5_000, FIELDS + 20  # beyond what a proxy takes of another one, too
HANDSHAKE_S, HEAD_S, BODY_S = 5.0, 10.0, 30.0


def rss(proxy: ProxyHarness) -> int:
    """Resident memory in MB."""
    lines = Path(f"/proc/{proxy.process.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmRSS")) // 1024


def fields(count: int, size: int = 1) -> list[str]:
    return [f"x-{i}: {'a' * size}" for i in range(count)]


OVERSIZED = {
    "one header of 69 KiB": (get("/", f"x-a: {'a' * MORE_HEAD}"), 431),
    "one header of 1 MB": (get("/", f"x-a: {'a' * 1_000_000}"), 431),
    "many headers of 1 KB": (get("/", *fields(100, 1024)), 431),
    "149 fields": (get("/", *fields(MORE_FIELDS)), 431),
    "10,000 fields": (get("/", *fields(10_000)), 431),
    "empty fields": (get("/", *["x:"] * 300), 431),
    "one cookie crumb each": (get("/", *["cookie: a=b"] * 500), 431),
    "a name of 69 KiB": (get("/", "x" * MORE_HEAD + ": a"), 431),
    "a URI of 69 KiB": (get("/" + "a" * MORE_HEAD), 414),
    "a URI of 1 MB": (get("/" + "a" * 1_000_000), 414),
    "a query of 69 KiB": (get("/?" + "a" * MORE_HEAD), 414),
    "a method of 69 KiB": (get("/", method="M" * MORE_HEAD), 414),
    "a body of 10^19 bytes": (request("Content-Length: 10000000000000000000"), 400),
}


@pytest.mark.parametrize("side", SIDES)
async def test_oversized_heads_cve_2020_12605_cve_2019_15226(side: str) -> None:
    async with Doors() as d:
        before = rss(d.first(side))
        for name, (raw, status) in OVERSIZED.items():
            seen = await _send(d, side, raw)
            # who sends on and on beyond the limit may find the connection reset before the answer
            assert seen == status or (seen == 0 and len(raw) > 500_000), name
        assert d.app.whole == []
        if side != "peer":
            assert await _send(d, side, get("/", *fields(FIELDS))) == 431
        for raw in (get("/", *fields(FIELDS - 1)), get("/" + "a" * 60_000), get("/", f"x-a: {'a' * 60_000}")):
            assert await _send(d, side, raw) == 200, "just below the limit"
        for raw, _ in list(OVERSIZED.values()) * 5:
            await _send(d, side, raw)
        assert rss(d.first(side)) < before + 20, "memory does not grow with what is refused"
        lines = await d.logged(5 * len(OVERSIZED))
        assert {line["code"] for line in lines} <= {200, 400, 414, 431}


async def _send(d: Doors, side: str, raw: bytes) -> int:
    """The status; the client goes on sending while it is refused."""
    async with d.open(side) as w:
        w.writer.write(raw)
        try:
            return (await w.response()).status
        except ENDED:
            return 0


@pytest.mark.parametrize("side", SIDES)
async def test_an_oversized_answer_is_502_and_costs_no_memory(side: str) -> None:
    async def handler(talk: Conversation) -> None:
        await talk.request()
        await talk.send(b"HTTP/1.1 200 OK\r\n" + b"x-a: " + b"a" * 2_000_000)

    async with Doors(handler=handler) as d, d.open(side) as w:
        assert (await w.ask(get())).status == 502
        assert rss(d.mesh.a) + rss(d.mesh.b) < 80


async def took(w: Wire, started: float, patience: float = 20) -> tuple[int, float]:
    """Status of the answer, 0 without one, and seconds until the connection ended."""
    try:
        status = int((await asyncio.wait_for(w.reader.readuntil(b"\r\n\r\n"), patience)).split(b" ")[1])
    except ENDED:
        status = 0
    with suppress(*ENDED):
        await asyncio.wait_for(w.reader.read(), patience)
    return status, time.monotonic() - started


async def slow_head(d: Doors, side: str, first: bytes, drip: bytes) -> tuple[int, float]:
    """A client that sends `first` and then one byte of `drip` each 300 ms until it is stopped."""
    async with d.open(side) as w:
        started = time.monotonic()
        await w.send(first)
        ended = asyncio.gather(took(w, started))
        for byte in drip:
            await asyncio.wait({ended}, timeout=0.3)
            if ended.done():
                break
            try:
                await w.send(bytes([byte]))
            except ENDED:
                break
        [result] = await ended
        return result


async def silent(d: Doors, port: int, data: bytes) -> tuple[int, float]:
    """A TCP connection that says `data` and nothing more."""
    async with Wire(port) as w:
        started = time.monotonic()
        await w.send(data)
        return await took(w, started)


def hello(d: Doors) -> bytes:
    """A client's first flight."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with pytest.raises(ssl.SSLWantReadError):
        client_context("").wrap_bio(incoming, outgoing, server_hostname=sni(d.mesh.spiffe)).do_handshake()
    return outgoing.read()


async def test_slow_heads_end_with_408_and_half_handshakes_end_hyper_3178_hyper_3962() -> None:
    async with Doors() as d:
        begun, drip = b"GET / HTTP/1.1\r\nHost: api.mesh\r\n", b"x-a: 1\r\n" * 50
        first, inbound = hello(d), d.mesh.inbound_port
        heads = {f"nothing more, {s}": slow_head(d, s, begun, b"") for s in SIDES}
        heads |= {f"a byte now and then, {s}": slow_head(d, s, begun, drip) for s in SIDES}
        heads |= {f"second request, {s}": slow_head(d, s, get("/first") + b"G", b"ET ") for s in ("hop", "peer")}
        mute = {"not a byte, upstream": silent(d, d.mesh.port, b"")}
        shakes = {
            "not a byte, inbound": silent(d, inbound, b""),
            "half a ClientHello": silent(d, inbound, first[: len(first) // 2]),
            "a ClientHello": silent(d, inbound, first),
            "one byte of TLS": silent(d, inbound, b"\x16"),
            "a record that never comes": silent(d, inbound, b"\x16\x03\x01\x40\x00"),
        }
        at_once = {"HTTP in the clear": silent(d, inbound, get()), "garbage": silent(d, inbound, b"\x00" * 100)}
        every = {**heads, **mute, **shakes, **at_once}
        found = dict(zip(every, await asyncio.gather(*every.values()), strict=True))
        for name in heads:
            status, seconds = found[name]
            assert status == (200 if name.startswith("second") else 408), name
            assert seconds < HEAD_S + 2.5, name
            assert seconds > HEAD_S - 1, f"{name}: a slow client has its time"
        assert [found[n][0] for n in (*mute, *shakes, *at_once)] == [0] * (len(mute) + len(shakes) + len(at_once))
        assert HEAD_S - 1 < found["not a byte, upstream"][1] < HEAD_S + 2.5
        assert [n for n in shakes if not HANDSHAKE_S - 1 < found[n][1] < HANDSHAKE_S + 2.5] == []
        assert [n for n in at_once if found[n][1] > 2] == []
        assert [r.target for r in d.app.whole] == ["/first", "/first"]
        await _quiet(d)


@pytest.fixture
def many_files() -> Iterator[None]:
    """Room for 1,000 connections with both ends on this machine."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = 8192 if hard == resource.RLIM_INFINITY else min(8192, hard)
    if wanted < 3000:
        pytest.skip(f"only {hard} open files allowed")
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, wanted), hard))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.usefixtures("many_files")
async def test_a_thousand_sockets_that_never_speak_cost_little_and_delay_nobody() -> None:
    async with Doors() as d:
        before = rss(d.mesh.a), rss(d.mesh.b)
        ports = [d.mesh.inbound_port] * 600 + [d.mesh.port] * 400
        opened = [await asyncio.open_connection("127.0.0.1", port) for port in ports]
        try:
            begun = b"\x16\x03\x01\x02\x00\x01\x00"
            for i, (_, writer) in enumerate(opened):
                writer.write((begun if i < 600 else b"GET / HTTP/1.1\r\n")[: i % 8])
            times = []
            for side in SIDES * 25:
                started = time.monotonic()
                assert (await d.send(side, get("/served"))).status == 200
                times.append(time.monotonic() - started)
            assert sorted(times)[-5] < 1, "others are served meanwhile"
            assert rss(d.mesh.a) - before[0] < 20
            assert rss(d.mesh.b) - before[1] < 20
        finally:
            for _, writer in opened:
                writer.transport.abort()
        await _quiet(d)


async def _quiet(d: Doors) -> None:
    """Waits until nothing is left but what the proxies pool."""
    async with asyncio.timeout(10):
        while True:
            a, b = await d.mesh.a.control.scrape(), await d.mesh.b.control.scrape()
            if a.connections == 0 and b.connections <= 1:
                return
            await asyncio.sleep(0.05)


SLOW_BODIES = {
    "nothing of it": request("Content-Length: 10"),
    "some of it": request("Content-Length: 10", body=b"abc"),
    "chunk size only": request("Transfer-Encoding: chunked", body=b"5\r\n"),
    "half a chunk": request("Transfer-Encoding: chunked", body=b"5\r\nab"),
    "no last chunk": request("Transfer-Encoding: chunked", body=b"2\r\nab\r\n"),
}


@pytest.mark.parametrize("side", ["hop", "pair", "foreign", "peer"])
async def test_a_body_that_does_not_come_is_the_clients_fault(side: str) -> None:
    """By the request's own time here (the 30 s between two pieces would be the same code): 408, no endpoint blamed."""
    async with Doors(inbound={"request_timeout_ms": 400}) as d:
        for service in ("api", "plain"):
            await d.mesh.a.update(_routes(service))
        for name, raw in SLOW_BODIES.items():
            async with d.open(side) as w:
                await w.send(raw)
                r = await w.response()
                assert (r.status, r.header("connection")) == (408, "close"), name
                assert await w.is_closed(), name
        assert d.app.whole == []
        stats = await d.mesh.a.control.scrape()
        assert [s.name for s in stats.endpoints if s.failures] == []
        assert (await d.send(side, get())).status == 200
        assert {line["flags"] for line in await d.logged(len(SLOW_BODIES) + 1)} <= {"DPE", "", "DC"}


def _routes(service: str) -> c.Routes:
    return c.Routes(name=service, rules=(rule(service, timeout_ms=300),))


async def test_an_app_that_does_not_read_or_answer_is_not_the_clients_fault() -> None:
    """The other side of the line: 504."""

    async def handler(talk: Conversation) -> None:
        await talk.request(body=False)
        await talk.closed()

    async with Doors(handler=handler) as d:
        await d.mesh.a.update(_routes("plain"))
        async with d.open("hop") as w:
            assert (await w.ask(request("Content-Length: 3", body=b"abc"))).status == 504


@pytest.mark.mesh_long
@pytest.mark.parametrize("side", ["foreign", "hop"])
async def test_a_body_idle_for_30_seconds_ends_cve_2020_12604(side: str) -> None:
    """A request without a time of its own: a client that stops sending, and one that stops reading."""

    async def handler(talk: Conversation) -> None:
        while (r := await talk.request()) is not None:
            await talk.send(ok(b"x" * 50_000_000 if r.target == "/big" else b""))

    async with Doors(handler=handler) as d:

        async def sends() -> tuple[int, float]:
            async with d.open(side) as w:
                started = time.monotonic()
                await w.send(SLOW_BODIES["some of it"])
                return await took(w, started, 45)

        async def reads() -> float:
            async with d.open(side) as w:
                await w.send(get("/big"))
                await w.head()
                await asyncio.wait_for(d.mesh.app.ended.wait(), 60)
                return 0.0

        async with asyncio.timeout(50):
            (status, seconds), _ = await asyncio.gather(sends(), reads())
        if side == "foreign":
            assert (status, BODY_S - 2 < seconds < BODY_S + 4) == (408, True)
