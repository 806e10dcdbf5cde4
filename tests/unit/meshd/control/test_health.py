"""Checks against real sockets: status by answer, redirects not followed, output cut, TTL by the clock."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer

from meshd.control.health import OUTPUT_LIMIT, Runner, cut, http_health, words
from meshd.tasks import Tasks
from registry.model import Check, CheckResult, InstanceKey
from tests.fakes.pki import Pki
from tests.unit.meshd.conftest import free_port

KEY = InstanceKey("web", "a", "web-1")


class Bench:
    """A runner whose reports arrive in a queue."""

    def __init__(self) -> None:
        self.reports: asyncio.Queue[CheckResult] = asyncio.Queue()
        self.tasks = Tasks("test", self)
        self.runner = Runner(self.tasks, self.report, lambda: 0.0)

    def error(self, event: str, **fields: object) -> None:
        raise AssertionError((event, fields))

    async def report(self, key: InstanceKey, result: CheckResult) -> None:
        assert key == KEY
        self.reports.put_nowait(result)

    async def next(self) -> CheckResult:
        return await asyncio.wait_for(self.reports.get(), 5)

    def follow(self, *checks: Check) -> None:
        self.runner.follow(KEY, checks, ())


@pytest.fixture
async def bench() -> AsyncIterator[Bench]:
    made = Bench()
    yield made
    await made.tasks.stop()
    await made.runner.close()


class App:
    """An app whose health is switched by the test."""

    def __init__(self) -> None:
        self.status = 200
        self.body = b"fine"
        self.requests = 0
        self.elsewhere = 0

    async def healthz(self, request: web.Request) -> web.Response:
        self.requests += 1
        headers = {"Location": "/elsewhere"} if self.status == 302 else {}
        return web.Response(status=self.status, body=self.body, headers=headers)

    async def other(self, request: web.Request) -> web.Response:
        self.elsewhere += 1
        return web.Response()


@pytest.fixture
async def app() -> AsyncIterator[tuple[App, Callable[..., Check]]]:
    state = App()
    application = web.Application()
    application.router.add_get("/healthz", state.healthz)
    application.router.add_get("/elsewhere", state.other)
    server = TestServer(application)
    await server.start_server()

    def check(**fields: object) -> Check:
        given: dict[str, object] = {"interval": 0.01, "timeout": 2.0} | fields
        return Check(check_id="c", http=str(server.make_url("/healthz")), **given)  # type: ignore[arg-type] - fields come from the table of the test

    yield state, check
    await server.close()


async def test_http_follows_the_app(bench: Bench, app: tuple[App, Callable[..., Check]]) -> None:
    state, check = app
    bench.follow(check())
    assert (await bench.next()).status == "passing"
    state.status = 500
    failed = await bench.next()
    assert failed.status == "critical"
    assert "500 fine" in failed.output
    state.status = 429
    assert (await bench.next()).status == "warning"


async def test_rise_and_fall_are_applied(bench: Bench, app: tuple[App, Callable[..., Check]]) -> None:
    state, check = app
    bench.follow(check(success_before_passing=3))
    assert (await bench.next()).status == "passing"
    assert state.requests >= 4


async def test_redirects_are_not_followed(bench: Bench, app: tuple[App, Callable[..., Check]]) -> None:
    state, check = app
    state.status = 302
    bench.follow(check())
    assert (await bench.next()).status == "critical"
    assert state.elsewhere == 0


async def test_output_is_cut_at_4_kb(bench: Bench, app: tuple[App, Callable[..., Check]]) -> None:
    state, check = app
    state.body = b"x" * 100_000
    bench.follow(check())
    assert len((await bench.next()).output) == OUTPUT_LIMIT


async def test_a_slow_answer_is_critical(bench: Bench) -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await silent.wait()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bench.follow(Check(check_id="c", http=f"http://127.0.0.1:{port}/", interval=0.01, timeout=0.05))
    assert (await bench.next()).output == "no answer within 0.05 s"
    await bench.tasks.stop()
    silent.set()
    server.close()
    await server.wait_closed()


async def test_tcp(bench: Bench) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    bench.follow(Check(check_id="c", tcp=f"127.0.0.1:{port}", interval=0.01))
    assert (await bench.next()).status == "passing"
    server.close()
    await server.wait_closed()
    assert (await bench.next()).status == "critical"


async def test_grpc(bench: Bench) -> None:
    bench.follow(Check(check_id="c", grpc=f"127.0.0.1:{free_port('127.0.0.1')}/shop", interval=0.01))
    said = await bench.next()
    assert (said.status, "UNAVAILABLE" in said.output) == ("critical", True)


async def test_https_is_verified_unless_told_otherwise(bench: Bench, tmp_path: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(*Pki(tmp_path).issue("api.local"))
    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context)
    url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    bench.follow(Check(check_id="c", http=url, interval=0.01))
    assert "CERTIFICATE_VERIFY_FAILED" in (await bench.next()).output
    bench.follow(Check(check_id="c", http=url, interval=0.01, tls_skip_verify=True))
    assert (await bench.next()).status == "passing"
    await bench.tasks.stop()
    server.close()
    await server.wait_closed()


async def test_ttl_expires_once_and_starts_again_with_a_beat(bench: Bench) -> None:
    bench.follow(Check(check_id="t", ttl=0.02))
    assert (await bench.next()).output == "no update for 0.02 s"
    assert bench.reports.empty()
    bench.runner.beat(KEY, "t")
    assert (await bench.next()).status == "critical"


async def test_unchanged_checks_go_on_and_removed_ones_end(bench: Bench, app: tuple[App, Callable[..., Check]]) -> None:
    _, check = app
    bench.follow(check())
    await bench.next()
    bench.follow(check())
    assert len(bench.tasks) == 1
    bench.runner.forget(KEY)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(bench.tasks) == 0


@pytest.mark.parametrize(
    ("status", "health"), [(200, "passing"), (204, "passing"), (429, "warning"), (301, "critical")]
)
def test_health_by_http_status(status: int, health: str) -> None:
    assert http_health(status) == health


def test_cut_never_splits_a_character() -> None:
    assert cut("é" * 3000) == "é" * 2048


async def test_an_app_that_does_not_listen_is_named_in_the_systems_words(bench: Bench) -> None:
    port = free_port("127.0.0.1")
    bench.follow(Check(check_id="c", http=f"http://127.0.0.1:{port}/", interval=0.1, timeout=1.0, status="passing"))
    found = await bench.next()
    assert (found.status, found.output) == ("critical", f"127.0.0.1:{port}: Connection refused")


def test_an_error_without_a_number_speaks_for_itself() -> None:
    assert words(OSError("no such name")) == "no such name"
