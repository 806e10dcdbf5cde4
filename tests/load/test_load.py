"""The load generator against servers that behave and misbehave in known ways: it must tell every failure."""

import asyncio
import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from tests.load import Plan, run
from tests.load.report import Tally, percentile

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@asynccontextmanager
async def serving(answers: Callable[[int], bytes | None]) -> AsyncIterator[tuple[str, list[int]]]:
    """A server that sends `answers(n)` to the n-th request; None closes the connection. Yields url and connections."""
    connections: list[int] = []
    requests = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal requests
        connections.append(len(connections))
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                requests += 1
                answer = answers(requests - 1)
                if answer is None:
                    break
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/x?y=1", connections


async def test_every_request_of_a_count_is_sent_over_the_kept_connections() -> None:
    async with serving(lambda _: OK) as (url, connections):
        report = await run(Plan(url=url, conns=4, count=400))
    assert (report.ok, report.failed, report.statuses) == (400, 0, {"200": 400})
    assert len(connections) == 4
    assert sum(row.ok for row in report.per_second) == 400


async def test_the_rate_is_kept_when_the_server_is_quick() -> None:
    async with serving(lambda _: OK) as (url, _):
        report = await run(Plan(url=url, rate=500, conns=4, count=100))
    assert report.ok == 100
    assert report.seconds >= 99 / 500


async def test_a_stall_shows_in_the_latency_of_the_requests_that_it_delayed() -> None:
    """Coordinated omission: with one connection, the requests due during a stall count their waiting."""
    release = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await reader.readuntil(b"\r\n\r\n"):
                await release.wait()
                writer.write(OK)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
        asyncio.get_running_loop().call_later(0.3, release.set)
        report = await run(Plan(url=url, rate=1000, conns=1, count=100))
    assert report.ok == 100
    assert report.latency_ms["p50"] > 150


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (b"HTTP/1.1 503 no\r\nContent-Length: 4\r\n\r\noops", "status 503: oops"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nok", "no answer in 0.3 s"),
        (b"SSH-2.0 hello\r\n", "not a status line"),
        (None, "connection closed"),
    ],
)
async def test_a_failure_is_counted_and_told(answer: bytes | None, told: str) -> None:
    async with serving(lambda number: answer if number == 3 else OK) as (url, _):
        report = await run(Plan(url=url, conns=1, count=8, timeout=0.3))
    assert (report.ok, report.failed) == (7, 1)
    assert told in report.errors[0]


async def test_a_refused_connection_is_a_failure() -> None:
    async with serving(lambda _: OK) as (url, _):
        pass
    report = await run(Plan(url=url, conns=2, count=6))
    assert (report.ok, report.failed, report.statuses) == (0, 6, {"none": 6})


async def test_no_answer_in_time_is_a_failure() -> None:
    async with serving(lambda _: b"") as (url, _):
        report = await run(Plan(url=url, conns=1, count=2, timeout=0.05))
    assert report.failed == 2
    assert "no answer in 0.05 s" in report.errors[0]


async def test_a_connection_closed_between_answers_is_opened_again() -> None:
    close = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok"
    async with serving(lambda _: close) as (url, connections):
        report = await run(Plan(url=url, conns=1, count=5))
    assert (report.ok, report.failed, len(connections)) == (5, 0, 5)


async def test_chunked_and_interim_answers_are_read_to_their_end() -> None:
    chunked = (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        b"3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nT: 1\r\n\r\n"
    )
    async with serving(lambda _: chunked) as (url, connections):
        report = await run(Plan(url=url, conns=1, count=5))
    assert (report.ok, len(connections)) == (5, 1)


async def test_stop_ends_a_run_between_requests() -> None:
    stop = asyncio.Event()

    def answers(number: int) -> bytes:
        if number == 20:
            stop.set()
        return OK

    async with serving(answers) as (url, _):
        report = await run(Plan(url=url, conns=2, seconds=30), stop=stop)
    assert 20 < report.ok <= 23
    assert report.failed == 0


def test_percentiles_are_nearest_rank() -> None:
    values = [float(value) for value in range(1, 101)]
    assert [percentile(values, mark) for mark in (0, 50, 99, 100)] == [1, 50, 99, 100]
    assert percentile([], 99) == 0


def test_only_the_first_errors_are_kept() -> None:
    tally = Tally()
    for at in range(50):
        tally.broke(at, OSError("gone"))
    report = tally.report(50)
    assert (report.failed, len(report.errors), len(report.per_second)) == (50, 10, 50)


@pytest.mark.parametrize(
    "bad", [{"url": "https://x/", "count": 1}, {"url": "http://x/"}, {"url": "http://x/", "count": 1, "conns": 0}]
)
def test_an_impossible_plan_is_refused(bad: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"http|end|positive"):
        Plan(**bad)  # type: ignore[arg-type]  # the point of the test is wrong arguments


@pytest.mark.parametrize(("answer", "code"), [(OK, 0), (OK.replace(b"200 OK", b"500 no"), 1)])
async def test_the_command_prints_json_and_exits_1_on_failures(answer: bytes, code: int) -> None:
    async with serving(lambda _: answer) as (url, _):
        command = [sys.executable, "-m", "tests.load", "--url", url, "--rate", "200", "--count", "20", "--json"]
        done = await asyncio.to_thread(
            subprocess.run, command, capture_output=True, text=True, cwd=Path(__file__).parents[2], check=False
        )
    printed = json.loads(done.stdout)
    assert done.returncode == code, done.stderr
    assert printed["ok"] + printed["failed"] == 20
