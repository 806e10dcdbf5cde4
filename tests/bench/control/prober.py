"""The probe loop, in a process of its own: `python -m tests.bench.control.prober ADDRESS PORT`.

Beside the one who writes and watches it would wait for its turn in the same loop, and they for theirs. For each line on
stdin, a status, it asks one request after another until one is answered so, and prints when that was. Between two
requests it lets go of the core, which the store, two meshds and two proxies share with it.
"""

import asyncio
import socket
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import msgspec

PAUSE = 0.0002  # seconds
PATIENCE = 10.0


class Decided(msgspec.Struct, frozen=True):
    """`at`: by the clock of `time.perf_counter`, which processes share on Linux; `requests`: seconds of each."""

    at: float
    requests: list[float]


class Prober:
    """Used by the one who writes: `until(status)` before the change is sent."""

    def __init__(self, process: Process) -> None:
        self._process = process

    async def until(self, status: int) -> Decided:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"%d\n" % status)
        line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("the prober has ended")
        return msgspec.json.decode(line, type=Decided)


@asynccontextmanager
async def probing(address: tuple[str, int]) -> AsyncIterator[Prober]:
    command = (sys.executable, "-m", "tests.bench.control.prober", address[0], str(address[1]))
    process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE)
    try:
        yield Prober(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


class Caller:
    """One kept connection; opened again when it was closed."""

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._request = f"GET / HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode()
        self._socket: socket.socket | None = None

    def status(self) -> int:
        """Of one request; 0: the connection was lost."""
        try:
            if self._socket is None:
                self._socket = socket.create_connection(self._address, PATIENCE)
                self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.sendall(self._request)
            return self._answer(self._socket)
        except OSError:
            self.close()
            return 0

    def _answer(self, sock: socket.socket) -> int:
        found = b""
        while b"\r\n\r\n" not in found:
            found += self._more(sock)
        head, _, body = found.partition(b"\r\n\r\n")
        fields = [line.lower() for line in head.split(b"\r\n")[1:]]
        length = next(int(line.split(b":")[1]) for line in fields if line.startswith(b"content-length:"))
        while len(body) < length:
            body += self._more(sock)
        if any(line.startswith(b"connection:") and b"close" in line for line in fields):
            self.close()
        return int(head[9:12])

    def _more(self, sock: socket.socket) -> bytes:
        found = sock.recv(65536)
        if not found:
            raise ConnectionError("closed")
        return found

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def until(caller: Caller, wanted: int) -> Decided:
    requests: list[float] = []
    end = time.perf_counter() + PATIENCE
    while True:
        sent = time.perf_counter()
        status = caller.status()
        now = time.perf_counter()
        if status:
            requests.append(now - sent)
        if status == wanted:
            return Decided(now, requests)
        if now > end:
            raise SystemExit(f"no answer {wanted} within {PATIENCE:g} s, the last was {status}")
        time.sleep(PAUSE)


def main() -> None:
    caller = Caller(sys.argv[1], int(sys.argv[2]))
    for line in sys.stdin:
        decided = until(caller, int(line))
        sys.stdout.buffer.write(msgspec.json.encode(decided) + b"\n")
        sys.stdout.flush()
    caller.close()


if __name__ == "__main__":
    main()
