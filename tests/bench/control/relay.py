"""A TCP relay that counts what comes back: bytes that a client receives from its server, whatever they speak."""

import asyncio
import threading
from contextlib import suppress

CHUNK = 1 << 18


class Relay:
    """`run` in a thread of its own, `end` from another. `received`: bytes sent to clients so far."""

    def __init__(self, host: str, target: tuple[str, int]) -> None:
        self.listening = threading.Event()
        self.received = 0
        self.address = ""
        self._host = host
        self._target = target
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop: asyncio.Event | None = None

    def run(self) -> None:
        asyncio.run(self._serve())

    def end(self) -> None:
        if self._loop is not None and self._stop is not None:
            with suppress(RuntimeError):  # ended already
                self._loop.call_soon_threadsafe(self._stop.set)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._connected, self._host, 0)
        host, port = server.sockets[0].getsockname()[:2]
        self.address = f"{host}:{port}"
        self.listening.set()
        await self._stop.wait()
        server.close()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            theirs, ours = await asyncio.open_connection(*self._target)
        except OSError:
            writer.close()
            return
        with suppress(OSError):
            await asyncio.gather(self._pump(reader, ours, False), self._pump(theirs, writer, True))

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, back: bool) -> None:
        try:
            while data := await source.read(CHUNK):
                self.received += len(data) if back else 0
                sink.write(data)
                await sink.drain()
        finally:
            sink.close()
