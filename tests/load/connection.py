"""One keep-alive HTTP/1.1 client connection: send the same GET, read one whole answer."""

import asyncio
from typing import NamedTuple

# The largest answer that the loader reads: it checks proxies with small bodies, and must not grow when one misbehaves.
MAX_BODY = 64 * 1024 * 1024


class Broken(Exception):
    """The answer is not one: cut off, or not HTTP/1.1."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]  # names in lower case


class Connection:
    """Opens on first use, and again after the other side closed it between two answers (which HTTP allows)."""

    def __init__(self, address: tuple[str, int]) -> None:
        self._address = address
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def get(self, head: bytes) -> Answer:
        """Send `head`, read the answer. Raises OSError or Broken; the connection is then closed."""
        try:
            reader, writer = await self._open()
            writer.write(head)
            answer, keep = await read_answer(reader)
        except asyncio.IncompleteReadError as error:
            self.close()
            raise Broken(f"connection closed after {len(error.partial)} bytes of an answer's part") from error
        except BaseException:
            self.close()
            raise
        if not keep:
            self.close()
        return answer

    async def _open(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        if self._streams is not None and self._streams[0].at_eof():
            self.close()
        if self._streams is None:
            self._streams = await asyncio.open_connection(*self._address)
        return self._streams

    def close(self) -> None:
        if self._streams is not None:
            self._streams[1].transport.abort()
            self._streams = None


async def read_answer(reader: asyncio.StreamReader) -> tuple[Answer, bool]:
    """The final answer (1xx are skipped) and whether the connection may be used again."""
    while True:
        version, status = _status(await reader.readuntil(b"\r\n"))
        headers = await _headers(reader)
        if status >= 200:
            break
    body, framed = await _body(reader, status, headers)
    keep = framed and version == "HTTP/1.1" and "close" not in headers.get("connection", "").lower()
    return Answer(status, body, headers), keep


def _status(line: bytes) -> tuple[str, int]:
    parts = line.decode("latin-1").split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].strip().isdigit():
        raise Broken(f"not a status line: {line[:80]!r}")
    return parts[0], int(parts[1])


async def _headers(reader: asyncio.StreamReader) -> dict[str, str]:
    headers: dict[str, str] = {}
    while (line := await reader.readuntil(b"\r\n")) != b"\r\n":
        name, colon, value = line.decode("latin-1").partition(":")
        if not colon:
            raise Broken(f"not a header: {line[:80]!r}")
        headers[name.lower()] = value.strip()
    return headers


async def _body(reader: asyncio.StreamReader, status: int, headers: dict[str, str]) -> tuple[bytes, bool]:
    """The body, and whether its end was marked (else the connection's end was the body's end)."""
    if status in (204, 304):
        return b"", True
    if "chunked" in headers.get("transfer-encoding", "").lower():
        return await _chunks(reader), True
    if "content-length" in headers:
        length = int(headers["content-length"])
        if length > MAX_BODY:
            raise Broken(f"body of {length} bytes")
        return await reader.readexactly(length), True
    return await reader.read(MAX_BODY), False


async def _chunks(reader: asyncio.StreamReader) -> bytes:
    body = b""
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        body += await reader.readexactly(size)
        if len(body) > MAX_BODY:
            raise Broken("endless chunked body")
        await reader.readexactly(2)
    await _headers(reader)
    return body
