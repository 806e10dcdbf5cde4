"""Backends under the test's control: they remember exactly the bytes that they received."""

import asyncio
import random
import socket
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

Handler = Callable[["Conversation"], Awaitable[None]]


def ok(body: bytes = b"ok", *lines: str, status: str = "200 OK") -> bytes:
    """A response with a content-length."""
    head = [f"HTTP/1.1 {status}", f"content-length: {len(body)}", *lines]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


@dataclass
class Request:
    """One request exactly as it came."""

    head: bytes
    body: bytes

    @property
    def line(self) -> str:
        return self.head.split(b"\r\n", 1)[0].decode("latin-1")

    @property
    def method(self) -> str:
        return self.line.split(" ")[0]

    @property
    def target(self) -> str:
        return self.line.split(" ")[1]

    def all(self, name: str) -> list[str]:
        """Every value of a header, in order."""
        lines = (line.split(b":", 1) for line in self.head.split(b"\r\n")[1:] if b":" in line)
        return [v.strip().decode("latin-1") for n, v in lines if n.decode("latin-1").lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None


class Conversation:
    """One connection to a backend, inside a handler."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, backend: "Backend") -> None:
        self.reader = reader
        self.writer = writer
        self.backend = backend

    async def request(self, *, body: bool = True) -> Request | None:
        """The next request, None at the end. A chunked body is returned with its chunk lines."""
        try:
            head = await self.reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError as e:
            self.backend.leftover += e.partial
            return None
        request = Request(head, b"")
        self.backend.requests.append(request)
        self.backend.arrived.set()
        if body:
            request.body = await self.body(request)
        return request

    async def body(self, request: Request) -> bytes:
        length = request.header("content-length")
        if length is not None:
            return await self.reader.readexactly(int(length))
        if request.header("transfer-encoding") is None:
            return b""
        raw = b""
        while True:
            line = await self.reader.readuntil(b"\r\n")
            raw += line
            size = int(line.split(b";")[0], 16)
            if size == 0:
                while line != b"\r\n":
                    line = await self.reader.readuntil(b"\r\n")
                    raw += line
                return raw
            raw += await self.reader.readexactly(size + 2)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def closed(self) -> bytes:
        """Waits until the other side ends; returns what it still sent."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


async def echo(talk: Conversation) -> None:
    """Answers each request with its own head and body."""
    while (r := await talk.request()) is not None:
        await talk.send(ok(b"" if r.method == "HEAD" else r.head + r.body))


@dataclass
class Backend:
    """A server on 127.0.0.1 at a free port; `handler` serves each connection."""

    handler: Handler = echo
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    open: int = 0
    leftover: bytes = b""
    port: int = 0
    host: str = "127.0.0.1"

    async def __aenter__(self) -> Self:
        self.arrived = asyncio.Event()
        self.ended = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()
        self._server = await asyncio.start_server(self._serve, self.host, self.port, limit=1 << 20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def stop(self) -> None:
        """Closes the port and every connection."""
        self._server.close()
        for w in list(self._writers):
            w.transport.abort()
        await self._server.wait_closed()

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.open += 1
        self._writers.add(writer)
        try:
            await self.handler(Conversation(reader, writer, self))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            self._writers.discard(writer)
            self.open -= 1
            self.ended.set()
            writer.close()


def free_port(host: str = "127.0.0.1") -> int:
    """A port nobody listens on just now: below those that the kernel gives to clients, one of which would take it."""
    while True:
        port = random.randint(20_000, 32_000)
        with socket.socket() as s, suppress(OSError):
            s.bind((host, port))
            return port
