"""The supervisor with real processes: started, found again, restarted, drained; never killed by our own end."""

import asyncio
import contextlib
import os
import signal
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from meshd.config import Host, Proxy, Seconds
from meshd.dataplane.client import Dataplane
from meshd.dataplane.supervise import ProxyMissing, Running, Supervisor, binary, ended, exited, generations
from tests.fakes import proxy as fake
from tests.unit.meshd.dataplane.conftest import Lines


@pytest.fixture
def run_dir() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:  # socket paths are limited to 107 bytes
        yield Path(folder)


class Bench:
    """A supervisor under way."""

    def __init__(self, run_dir: Path, log: Lines, program: str, manage: bool = True) -> None:
        host = Host(run_dir=str(run_dir), proxy=Proxy(manage=manage), drain_timeout=Seconds(1))
        self.plane = Dataplane(log, lambda version: None)
        environ = dict(os.environ) | {"MESHD_PROXY_BIN": program}
        self.supervisor = Supervisor(host, self.plane, log, environ, chance=lambda: 0.0)
        self.task = asyncio.get_running_loop().create_task(self.supervisor.run())

    async def attached(self, other_than: int = 0) -> Running:
        async with asyncio.timeout(20):
            while (running := self.supervisor.running) is None or running.link.pid == other_than:
                assert not self.task.done(), self.task.exception()
                await asyncio.sleep(0.005)  # sleep: the pace of a wait with a deadline
        return running

    async def abandon(self) -> None:
        """As when meshd is killed: nothing is said to the proxy."""
        self.task.cancel()
        await asyncio.wait([self.task])


@pytest.fixture
def program(tmp_path: Path) -> str:
    return str(fake.script(tmp_path))


@pytest.fixture
async def started(run_dir: Path, log: Lines, program: str) -> AsyncIterator[Bench]:
    bench = Bench(run_dir, log, program)
    await bench.attached()
    yield bench
    running = bench.supervisor.running
    await bench.abandon()
    if running is not None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(running.link.pid, signal.SIGKILL)
            await asyncio.to_thread(os.waitpid, running.link.pid, 0)


async def test_starts_in_a_session_of_its_own(started: Bench) -> None:
    pid = (await started.attached()).link.pid
    assert os.getsid(pid) == pid
    assert (await started.attached()).generation == 1


async def test_the_next_meshd_finds_the_running_proxy(started: Bench, run_dir: Path, log: Lines, program: str) -> None:
    pid = (await started.attached()).link.pid
    await started.abandon()
    os.kill(pid, 0)
    following = Bench(run_dir, log, program)
    assert (await following.attached()).link.pid == pid
    await following.supervisor.drain(1.0)
    await following.task


async def test_a_killed_proxy_is_started_again(started: Bench, log: Lines) -> None:
    pid = (await started.attached()).link.pid
    os.kill(pid, signal.SIGKILL)
    running = await started.attached(other_than=pid)
    assert running.generation == 1  # the dead socket is gone, so its number is free
    assert started.supervisor.restarts == 1
    assert "proxy ended; its connections are lost" in log.events()


async def test_drain_ends_the_proxy_and_the_supervisor(started: Bench) -> None:
    running = await started.attached()
    pidfd = os.pidfd_open(running.link.pid)
    await started.supervisor.drain(1.0)
    assert exited(pidfd)
    os.close(pidfd)
    await asyncio.wait_for(started.task, 5)


async def test_a_dead_socket_is_removed(run_dir: Path, log: Lines, program: str) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(str(run_dir / "proxy-7.sock"))
    bench = Bench(run_dir, log, program)
    assert (await bench.attached()).generation == 1
    assert generations(run_dir) == [1]
    await bench.supervisor.drain(1.0)
    await bench.task


async def test_an_older_generation_is_told_to_drain(run_dir: Path, log: Lines, program: str) -> None:
    old, new = fake.FakeProxy(run_dir, 1), fake.FakeProxy(run_dir, 2)
    await old.start()
    await new.start()
    bench = Bench(run_dir, log, program)
    assert (await bench.attached()).generation == 2
    await asyncio.wait_for(old.drained.wait(), 5)
    assert not new.drained.is_set()
    await bench.abandon()
    await old.stop()
    await new.stop()


async def test_without_manage_it_waits_for_a_proxy_and_never_drains_it(run_dir: Path, log: Lines) -> None:
    bench = Bench(run_dir, log, "/nonexistent", manage=False)
    other = fake.FakeProxy(run_dir, 3)
    await other.start()
    assert (await bench.attached()).generation == 3
    await bench.supervisor.drain(1.0)
    assert other.drains == []
    await bench.abandon()
    await other.stop()


async def test_a_program_that_ends_at_once_is_reported(run_dir: Path, log: Lines) -> None:
    bench = Bench(run_dir, log, "/bin/false")
    async with asyncio.timeout(10):
        while "proxy did not start" not in log.events():  # noqa: ASYNC110 - a log has no event to wait for
            await asyncio.sleep(0.005)  # sleep: the pace of a wait with a deadline
    await bench.abandon()
    assert next(fields for event, fields in log.lines if event == "proxy did not start")["exit"] == 1


async def test_ended_waits_for_the_process() -> None:
    child = await asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    pidfd = os.pidfd_open(child.pid)
    assert not exited(pidfd)
    child.terminate()
    await asyncio.wait_for(ended(pidfd), 5)
    os.close(pidfd)
    await child.wait()


def test_binary_is_named_found_or_missing(tmp_path: Path) -> None:
    program = fake.script(tmp_path)
    assert binary(Host(), {"MESHD_PROXY_BIN": str(program)}) == str(program)
    assert binary(Host(proxy=Proxy(binary=str(program))), {}) == str(program)
    with pytest.raises(ProxyMissing, match="cannot be executed"):
        binary(Host(), {"MESHD_PROXY_BIN": str(tmp_path / "absent")})


def test_generations_newest_first(tmp_path: Path) -> None:
    for name in ("proxy-2.sock", "proxy-10.sock", "proxy-x.sock", "api.sock"):
        (tmp_path / name).touch()
    assert generations(tmp_path) == [10, 2]
    assert generations(tmp_path / "absent") == []
