"""The thread against a real daemon, and against a socket that does what a daemon under distress does."""

import asyncio
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import pytest

from meshd.control.container_events import Away, Ended, Killed, Listed, Message, Seen
from meshd.control.docker_engine import Engine, process_start, reason
from tests.dockerd.daemon import Dockerd
from tests.unit.meshd.conftest import until

LABELS = {"meshd.service": "web", "meshd.port": "8080"}


@pytest.fixture(scope="module")
def docker() -> Iterator[Dockerd]:
    with Dockerd() as daemon:
        yield daemon


class Ear:
    """An engine whose messages are kept."""

    def __init__(self, path: str) -> None:
        self.messages: list[Message] = []
        self.engine = Engine(path, self.messages.append)
        self.engine.start()

    async def hears(self, kind: type[Message], test: Callable[[Message], bool] = lambda message: True) -> Message:
        """The first such message, which is then forgotten together with all before it."""

        def found() -> int:
            return next((n for n, one in enumerate(self.messages, 1) if isinstance(one, kind) and test(one)), 0)

        number = await until(f"{kind.__name__} in {self.messages}", found)
        message: Message = self.messages[number - 1]
        del self.messages[:number]
        return message


@pytest.fixture
async def listen() -> AsyncIterator[Callable[[str], Ear]]:
    ears: list[Ear] = []

    def listen(path: str) -> Ear:
        ears.append(Ear(path))
        return ears[-1]

    yield listen
    for ear in ears:
        await ear.engine.close()
        assert not ear.engine._thread.is_alive()


async def test_a_container_from_start_to_end(docker: Dockerd, listen: Callable[[str], Ear]) -> None:
    ear = listen(docker.socket)
    assert await ear.hears(Listed) == Listed(())
    name = await asyncio.to_thread(docker.run, "life", LABELS)
    seen = await ear.hears(Seen)
    assert isinstance(seen, Seen)
    assert (seen.container.name, seen.container.running, seen.container.labels) == ("life", True, LABELS)
    assert seen.container.address == docker.address(name)
    await asyncio.to_thread(docker.stop, name)
    killed, ended = await ear.hears(Killed), await ear.hears(Ended)
    assert isinstance(killed, Killed)
    assert isinstance(ended, Ended)
    assert (killed.id, killed.signal, ended.id) == (name, "15", name)
    assert seen.container.started < killed.at <= ended.at


async def test_a_refresh_lists_again(docker: Dockerd, listen: Callable[[str], Ear]) -> None:
    name = await asyncio.to_thread(docker.run, "listed", LABELS)
    await asyncio.to_thread(docker.run, "nothing-of-ours", {"com.example": "x"})
    ear = listen(docker.socket)
    for _ in range(3):
        listed = await ear.hears(Listed)
        assert isinstance(listed, Listed)
        assert [one.id for one in listed.containers] == [name]
        ear.engine.refresh()


async def test_no_daemon(tmp_path: Path, listen: Callable[[str], Ear]) -> None:
    ear = listen(str(tmp_path / "none.sock"))
    assert await ear.hears(Away) == Away("No such file or directory")
    assert await ear.hears(Away)


async def test_a_daemon_that_answers_nonsense(listen: Callable[[str], Ear], short: Path) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]")
        await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(serve, str(short / "d.sock"))
    ear = listen(str(short / "d.sock"))
    away = await ear.hears(Away)
    assert isinstance(away, Away)
    assert away.reason
    await ear.engine.close()
    server.close()
    await server.wait_closed()


async def test_a_frozen_daemon_does_not_keep_the_end_waiting(listen: Callable[[str], Ear], short: Path) -> None:
    """It accepts and never answers: `close` returns, and the thread ends when its call does."""
    with socket.socket(socket.AF_UNIX) as silent:
        silent.bind(str(short / "d.sock"))
        silent.listen()
        engine = Engine(str(short / "d.sock"), lambda message: None)
        engine.start()
        await asyncio.wait_for(engine.close(), 5)
    await until("the thread ends", lambda: not engine._thread.is_alive())


@pytest.fixture
def short(short_tmp: Path) -> Path:
    return short_tmp


def test_a_process_is_known_by_its_start() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    assert process_start(child.pid) > 0
    assert process_start(child.pid) == process_start(child.pid)
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert process_start(child.pid) == 0  # a zombie is gone
    child.communicate()
    assert process_start(0) == 0


def test_a_reason_is_one_short_line() -> None:
    assert reason(ConnectionRefusedError(111, "Connection refused")) == "Connection refused"
    assert reason(ValueError("a\nb")) == "a"
    assert reason(ValueError()) == "ValueError"
    assert len(reason(ValueError("x" * 999))) == 200
