"""Twin of `registry/backends/consul_heart.py`: who waits is told when the other side falls silent, and only then."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable

import pytest

from registry.backends.consul_heart import Heart, Silent
from tests.fakes.running import running

SOON = 10.0  # seconds until a test gives up


class Server:
    """Answers the question, until it is frozen. `asked`: how often; `changed` is what others wait for."""

    def __init__(self) -> None:
        self.asked = 0
        self.changed = asyncio.Event()
        self._news = asyncio.Event()
        self._frozen = False

    async def ask(self, seconds: float) -> None:
        self.asked += 1
        self._news.set()
        if self._frozen:
            async with asyncio.timeout(seconds):
                await asyncio.Event().wait()

    def freeze(self, frozen: bool = True) -> None:
        self._frozen = frozen

    async def until(self, met: Callable[[], bool]) -> None:
        async with asyncio.timeout(SOON):
            while not met():
                self._news.clear()
                await self._news.wait()


@pytest.fixture
async def server() -> Server:
    return Server()


@pytest.fixture
async def heart(server: Server) -> AsyncIterator[Heart]:
    made = Heart(server.ask, every=0.02, silence=0.05)
    async with running(made.run()):
        yield made


async def test_a_server_that_answers_is_waited_for_as_long_as_it_takes(server: Server, heart: Heart) -> None:
    async with heart.waiting():
        await server.until(lambda: server.asked > 5)


async def test_all_who_wait_are_told_of_silence(server: Server, heart: Heart) -> None:
    async def waits() -> None:
        with pytest.raises(Silent, match="silent for"):
            async with heart.waiting():
                await server.changed.wait()

    server.freeze()
    async with asyncio.timeout(SOON):
        await asyncio.gather(waits(), waits(), waits())


async def test_one_question_without_an_answer_is_not_silence(server: Server, heart: Heart) -> None:
    async def thaw() -> None:
        server.freeze()
        before = server.asked
        await server.until(lambda: server.asked == before + 2)  # the second one is under way
        server.freeze(False)
        heart.heard()  # as an answer to something else says
        await server.until(lambda: server.asked > before + 4)

    async with heart.waiting():
        await thaw()


async def test_nobody_is_asked_while_nobody_waits(server: Server, heart: Heart) -> None:
    async with heart.waiting():
        await server.until(lambda: server.asked > 0)
    before = server.asked
    server.freeze()
    async with asyncio.timeout(SOON):
        await asyncio.sleep(0.2)  # sleep: as long as several questions
    assert server.asked <= before + 2  # one may have been under way, with its second try
    server.freeze(False)
    async with heart.waiting():
        await server.until(lambda: server.asked > before + 2)


async def test_other_answers_spare_the_question(server: Server) -> None:
    now = time.monotonic()
    heart = Heart(server.ask, every=60, silence=60, clock=lambda: now)
    async with running(heart.run()):
        async with heart.waiting():
            await asyncio.sleep(0)
            heart.heard()
        assert server.asked == 0


async def test_a_time_limit_of_the_request_itself_is_no_silence(heart: Heart) -> None:
    async def waits() -> None:
        async with heart.waiting(), asyncio.timeout(0.01):
            await asyncio.Event().wait()

    with pytest.raises(TimeoutError):
        await waits()


async def test_without_run_a_wait_is_only_a_wait(server: Server) -> None:
    heart = Heart(server.ask, every=0.01, silence=0.01)
    server.freeze()
    async with heart.waiting():
        await asyncio.sleep(0.1)  # sleep: longer than silence would take to be noticed
    assert server.asked == 0
