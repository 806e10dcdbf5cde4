"""A raw client: sends bytes, reads HTTP/1.1 responses one by one, hides nothing."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

PATIENCE = 15.0


@dataclass
class Response:
    head: bytes
    body: bytes

    @property
    def status(self) -> int:
        return int(self.head.split(b" ", 2)[1])

    def all(self, name: str) -> list[str]:
        lines = (line.split(b":", 1) for line in self.head.split(b"\r\n")[1:] if b":" in line)
        return [v.strip().decode("latin-1") for n, v in lines if n.decode("latin-1").lower() == name.lower()]

    def header(self, name: str) -> str | None:
        values = self.all(name)
        return values[0] if values else None

    @property
    def text(self) -> str:
        return self.body.decode("latin-1")


def get(path: str = "/", *lines: str, method: str = "GET", host: str = "api.mesh") -> bytes:
    return "\r\n".join([f"{method} {path} HTTP/1.1", f"host: {host}", *lines, "", ""]).encode("latin-1")


def post(path: str, body: bytes, *lines: str, method: str = "POST") -> bytes:
    return get(path, f"content-length: {len(body)}", *lines, method=method) + body


async def eventually(holds: Callable[[], Awaitable[bool]], patience: float = PATIENCE) -> None:
    """Asks again until it holds: for what shows only on another process's side, which cannot wake us."""
    async with asyncio.timeout(patience):
        while not await holds():  # noqa: ASYNC110  # no event to wait for: see above
            await asyncio.sleep(0.01)


class Wire:
    """One TCP connection to `host:port`."""

    def __init__(self, port: int, host: str = "127.0.0.1") -> None:
        self.host, self.port = host, port

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(self.host, self.port, limit=1 << 22)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.writer.transport.abort()

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def head(self) -> Response:
        """The next head, its body unread."""
        return Response(await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), PATIENCE), b"")

    async def response(self, *, to_head: bool = False) -> Response:
        """The next response whole, with its body decoded. Raises IncompleteReadError when it is cut short."""
        r = await self.head()
        if to_head or r.status < 200 or r.status in (204, 304):
            return r
        async with asyncio.timeout(PATIENCE):
            if (length := r.header("content-length")) is not None:
                r.body = await self.reader.readexactly(int(length))
            elif r.header("transfer-encoding") is not None:
                r.body = await self._chunks()
            else:
                r.body = await self.reader.read()
        return r

    async def _chunks(self) -> bytes:
        body = b""
        while True:
            size = int((await self.reader.readuntil(b"\r\n")).split(b";")[0], 16)
            if size == 0:
                while await self.reader.readuntil(b"\r\n") != b"\r\n":
                    pass
                return body
            body += await self.reader.readexactly(size)
            if await self.reader.readexactly(2) != b"\r\n":
                raise ValueError("chunk without CRLF")

    async def ask(self, data: bytes, *, to_head: bool = False) -> Response:
        await self.send(data)
        return await self.response(to_head=to_head)

    async def rest(self) -> bytes:
        """Everything until the proxy closes."""
        try:
            return await asyncio.wait_for(self.reader.read(), PATIENCE)
        except ConnectionResetError:
            return b""

    async def is_closed(self) -> bool:
        """Waits for the end; nothing may come before it."""
        return await self.rest() == b""
