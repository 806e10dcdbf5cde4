"""The parts of the control plane's bench: what it computes, and that a host that was told wrongly is found."""

import asyncio
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from registry import keys
from registry.interest import BASE, EVERYTHING
from registry.store import Batch, Entry, Resync, WatchEvent
from tests.bench.control import truth
from tests.bench.control.__main__ import FIGURES, arguments
from tests.bench.control.prober import probing
from tests.bench.control.relay import Relay
from tests.bench.control.result import Bar, Row, milliseconds
from tests.bench.control.simulated import Shared, Simulated, followed, judge, stamp
from tests.fakes.store import MemoryStore
from tests.tools import tool

ROOT = Path(__file__).parents[2]
A, B = keys.policy("service-intentions", "a"), keys.policy("service-intentions", "b")


def test_a_bar_is_held_or_said_to_be_missed() -> None:
    row = Row("x", {"n": 1}, "one", [Bar("p99 ms", 2.0, 2.0)])
    assert row.held
    assert row.as_json()["bars"] == {"p99 ms": {"value": 2.0, "most": 2.0, "held": True}}
    missed = Row("x", {}, "one", [Bar("ratio", 1.6, 1.5)])
    assert not missed.held
    assert "ratio 1.60 (bar 1.5: NOT held)" in missed.text()
    assert not Row("x", {}, "one", invalid="lost").held


def test_durations_are_told_in_milliseconds() -> None:
    told = milliseconds([0.001 * number for number in range(1, 101)])
    assert told == {"median": 50.5, "p90": 90.0, "p99": 99.0, "max": 100.0}


def test_unknown_figures_are_refused() -> None:
    assert arguments(list(FIGURES)).figures == list(FIGURES)
    with pytest.raises(SystemExit):
        arguments(["kv"])


def entry(key: str, value: bytes, version: int) -> Entry:
    return Entry(key=key, value=value, version=version, created=version)


def written(tmp_path: Path) -> list[truth.Write]:
    path = tmp_path / "truth.json"
    truth.save(path, [(11, A, b"1 # 5.5"), (12, B, b"2 # 5.6"), (14, A, b"3 # 5.7")])
    return truth.read(path)


def test_the_truth_at_each_index(tmp_path: Path) -> None:
    found = truth.Written.of(written(tmp_path), keys.POLICY)
    assert found.at(10) == {}
    assert found.at(13) == {A: b"1 # 5.5", B: b"2 # 5.6"}
    assert found.at(99) == {A: b"3 # 5.7", B: b"2 # 5.6"}
    assert found.indexed
    assert truth.Written.of(written(tmp_path), B).state == {B: b"2 # 5.6"}


def test_hosts_follow_other_documents_than_their_neighbours() -> None:
    first, second = followed(10, 0), followed(10, 1)
    assert first > BASE
    assert len(first - BASE) == 11
    assert first & second == {*BASE, keys.policy(truth.KIND, truth.LAST)}
    assert followed(0, 3) == EVERYTHING


def host(*events: WatchEvent) -> Simulated:
    made = Simulated(MemoryStore(), Shared(), frozenset({keys.POLICY}))
    made.fold.want(made.selectors)
    for event in events:
        made.take(keys.POLICY, event, 6.0)
    return made


FIRST = Batch(11, (entry(A, b"1 # 5.5", 11),))
SECOND = Batch(12, (entry(B, b"2 # 5.6", 12),))
THIRD = Batch(14, (entry(A, b"3 # 5.7", 14),))


def test_a_host_that_was_told_everything_is_judged_well(tmp_path: Path) -> None:
    told = host(Resync(5, ()), FIRST, SECOND, THIRD)
    assert judge(told, written(tmp_path)) == ""
    assert told.late == pytest.approx([0.5, 0.4, 0.3])


@pytest.mark.parametrize(
    "events",
    [
        (Resync(5, ()), FIRST, THIRD),  # one is lost
        (Resync(5, ()), FIRST, SECOND),  # the last one is lost
        (Resync(5, ()), SECOND, FIRST, THIRD),  # out of order
        (Resync(5, ()), FIRST, FIRST, SECOND, THIRD),  # told twice
    ],
)
def test_a_host_that_was_told_wrongly_is_found(events: tuple[WatchEvent, ...], tmp_path: Path) -> None:
    assert judge(host(*events), written(tmp_path)) != ""


def test_values_say_when_they_were_sent() -> None:
    assert stamp(b'{"Sources": []} # 12.5') == 12.5
    assert stamp(b"Protocol: http") is None


async def test_a_relay_counts_what_comes_back() -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"x" * len(await reader.readexactly(4)) * 25)
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    relay = Relay("127.0.0.1", server.sockets[0].getsockname())
    thread = threading.Thread(target=relay.run)
    thread.start()
    await asyncio.to_thread(relay.listening.wait, 10)
    host, port = relay.address.split(":")

    def ask() -> bytes:
        with socket.create_connection((host, int(port)), timeout=10) as connection:
            connection.sendall(b"ping")
            found = b""
            while data := connection.recv(1024):
                found += data
        return found

    assert len(await asyncio.to_thread(ask)) == 100
    relay.end()
    await asyncio.to_thread(thread.join, 10)
    assert relay.received == 100
    server.close()


async def test_the_prober_says_when_the_wanted_answer_came() -> None:
    """Over connections that the server keeps, closes, or breaks."""
    kept = b"403 Forbidden\r\nContent-Length: 2\r\n\r\nno"
    closed = b"403 Forbidden\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
    answers = [kept, closed, b"", b"200 OK\r\nContent-Length: 0\r\n\r\n"]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readline():
            while await reader.readline() not in (b"\r\n", b""):
                pass
            answer = answers.pop(0)
            writer.write(b"HTTP/1.1 " + answer if answer else b"")
            if not answer or b"close" in answer:
                break
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server, probing(server.sockets[0].getsockname()[:2]) as prober:
        began = time.perf_counter()
        decided = await prober.until(200)
    assert began < decided.at < time.perf_counter()
    assert len(decided.requests) == 3, "the one that was broken is not counted"
    assert answers == []


def test_the_endpoints_figure_is_taken_from_a_real_proxy() -> None:
    tool("meshd-proxy")
    command = [sys.executable, "-m", "tests.bench.control", "endpoints", "--short"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, timeout=50)
    assert done.returncode == 0, done.stderr
    assert '"figure": "endpoints"' in done.stdout
    assert "the proxy takes" in done.stderr
