"""One connection to one running proxy: the control socket's conversation, without any policy about what to send."""

import asyncio
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from meshd.dataplane import frames
from policies.compiled import (
    Applied,
    Config,
    Drain,
    Dump,
    Events,
    FromProxy,
    Hello,
    Rejected,
    Scrape,
    Stats,
    ToProxy,
)

HELLO_WITHIN = 5.0  # seconds; a proxy that runs answers within milliseconds
ANSWER_WITHIN = 30.0  # seconds for Applied: tables of every thread, on a busy machine
PERIODIC = b'{"type":"stats","id":0,'  # the Stats of each second, kept as bytes until somebody asks


class Link:
    """Open with `open_link`, then `run()` reads until the proxy closes. Calls raise `frames.Broken` after that."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, hello: Hello, pid: int) -> None:
        self.hello = hello
        self.pid = pid  # as the kernel names the peer, not as the peer says
        self.latest: bytes = b""  # the newest periodic Stats, undecoded
        self.on_events: Callable[[Events], None] = _ignore
        self._reader = reader
        self._writer = writer
        self._waiting: dict[tuple[str, int], asyncio.Future[FromProxy]] = {}
        self._next = 0
        self._closed = False

    async def run(self) -> None:
        """Read until the end. Everyone who waits for an answer is told."""
        try:
            while (text := await frames.read(self._reader)) is not None:
                if text.startswith(PERIODIC):
                    self.latest = text
                else:
                    self._take(frames.decode(text))
        finally:
            self.close()

    def close(self) -> None:
        self._closed = True
        self._writer.close()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(frames.Broken("the proxy closed the control socket"))
        self._waiting.clear()

    async def update(self, number: int, text: bytes) -> Applied | Rejected:
        """Send an encoded Update and wait until it is in force or refused."""
        answer = await self._ask("update", number, text)
        if not isinstance(answer, Applied | Rejected):
            raise frames.Broken(f"answered an update with {type(answer).__name__}")
        return answer

    async def scrape(self) -> Stats:
        """Totals as of now."""
        self._next += 1
        answer = await self._ask("stats", self._next, frames.encode(Scrape(id=self._next)))
        if not isinstance(answer, Stats):
            raise frames.Broken(f"answered a scrape with {type(answer).__name__}")
        return answer

    async def dump(self) -> Config:
        """What the proxy holds; private keys are shown as hashes."""
        self._next += 1
        answer = await self._ask("config", self._next, frames.encode(Dump(id=self._next)))
        if not isinstance(answer, Config):
            raise frames.Broken(f"answered a dump with {type(answer).__name__}")
        return answer

    async def drain(self, scope: Drain) -> None:
        await self._send(frames.encode(scope))

    async def _ask(self, kind: str, number: int, text: bytes) -> FromProxy:
        waiting: asyncio.Future[FromProxy] = asyncio.get_running_loop().create_future()
        self._waiting[kind, number] = waiting
        try:
            await self._send(text)
            async with asyncio.timeout(ANSWER_WITHIN):
                return await waiting
        except TimeoutError:
            raise frames.Broken(f"no answer to {kind} {number} within {ANSWER_WITHIN:g} s") from None
        finally:
            self._waiting.pop((kind, number), None)

    async def _send(self, text: bytes) -> None:
        if self._closed:
            raise frames.Broken("the control socket is closed")
        try:
            self._writer.write(frames.pack(text))
            await self._writer.drain()
        except ConnectionError as error:
            raise frames.Broken(f"control socket: {error}") from None

    def _take(self, frame: FromProxy) -> None:
        match frame:
            case Applied(update=number) | Rejected(update=number):
                self._answer("update", number, frame)
            case Stats(id=number):
                self._answer("stats", number, frame)
            case Config(id=number):
                self._answer("config", number, frame)
            case Events():
                self.on_events(frame)
            case Hello():
                raise frames.Broken("a second hello")

    def _answer(self, kind: str, number: int, frame: FromProxy) -> None:
        waiting = self._waiting.get((kind, number))
        if waiting is not None and not waiting.done():
            waiting.set_result(frame)


def _ignore(events: Events) -> None:
    del events


def send_frame(frame: ToProxy) -> bytes:
    """A frame as it goes over the wire."""
    return frames.pack(frames.encode(frame))


async def open_link(path: Path) -> Link:
    """Dial a proxy and wait for its Hello. Raises OSError when nobody listens, Broken when it does not speak ours."""
    reader, writer = await asyncio.open_unix_connection(str(path), limit=frames.LIMIT)
    try:
        async with asyncio.timeout(HELLO_WITHIN):
            text = await frames.read(reader)
        hello = frames.decode(text) if text is not None else None
        if not isinstance(hello, Hello):
            raise frames.Broken("no hello")
        return Link(reader, writer, hello, peer_pid(writer.get_extra_info("socket")))
    except TimeoutError:
        writer.close()
        raise frames.Broken(f"no hello within {HELLO_WITHIN:g} s") from None
    except BaseException:
        writer.close()
        raise


def peer_pid(sock: socket.socket) -> int:
    """The process at the other end (SO_PEERCRED: set by the kernel when it listened)."""
    pid, _, _ = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return int(pid)
