"""A TCP relay in front of a server that loses the server's answers."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Literal

Fault = Literal["", "silent", "cut"]


class Relay:
    """`fault`: what becomes of answers from now on. silent: they are swallowed; cut: and the connection is closed."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.there = host, port
        self.fault: Fault = ""
        self.port = 0

    @asynccontextmanager
    async def serve(self) -> AsyncIterator["Relay"]:
        async with AsyncExitStack() as stack:
            listener = await asyncio.start_server(self._accept, self.host, 0)
            self.port = listener.sockets[0].getsockname()[1]
            stack.push_async_callback(listener.wait_closed)
            stack.callback(listener.close)
            yield self

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        there, back = await asyncio.open_connection(self.host, self.there)
        try:
            await asyncio.gather(self._pump(reader, back, lambda: ""), self._pump(there, writer, lambda: self.fault))
        except ConnectionError:
            pass
        finally:
            writer.close()
            back.close()

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, fault: Callable[[], Fault]) -> None:
        while data := await source.read(65536):
            if fault() == "cut":
                raise ConnectionResetError
            if not fault():
                sink.write(data)
                await sink.drain()
        sink.close()
