"""What changes while a peer shakes hands counts for it: nobody is served by tables or trust that are no longer."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from policies import compiled as c
from tests.unit.proxy.certs import sni
from tests.unit.proxy.harness import MeshPair, allow
from tests.unit.proxy.test_mtls import DENY, context
from tests.unit.proxy.wire import get

ALLOW = allow("web")


class Caller:
    """A client that can stop half-way through its handshake."""

    def __init__(self, m: MeshPair) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        wrapped = context(m, m.authority.instance("web/a/web-1"))
        self._tls = wrapped.wrap_bio(self._incoming, self._outgoing, server_hostname=sni(m.spiffe))
        self._port = m.inbound_port

    async def begin(self) -> None:
        """Until the proxy has answered the first flight; our certificate is not sent yet."""
        self._reader, self._writer = await asyncio.open_connection("127.0.0.1", self._port)
        with pytest.raises(ssl.SSLWantReadError):
            self._tls.do_handshake()
        await self._flush()
        while True:
            self._incoming.write(await asyncio.wait_for(self._reader.read(65536), 5))
            try:
                return self._tls.do_handshake()
            except ssl.SSLWantReadError:
                continue

    async def ask(self) -> bytes:
        """The answer to one request; empty: the proxy closed the connection."""
        self._tls.write(get())
        await self._flush()
        while True:
            try:
                return self._tls.read(65536)
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                return b""
            try:
                got = await asyncio.wait_for(self._reader.read(65536), 5)
            except ConnectionError:
                return b""
            if not got:
                return b""
            self._incoming.write(got)

    async def _flush(self) -> None:
        self._writer.write(self._outgoing.read())
        await self._writer.drain()

    def close(self) -> None:
        self._writer.transport.abort()


async def asked(m: MeshPair, change: Callable[[], Awaitable[object]]) -> bytes:
    """What a caller gets whose handshake the change falls into."""
    caller = Caller(m)
    await caller.begin()
    await change()
    try:
        return await caller.ask()
    finally:
        caller.close()


async def test_a_denial_that_falls_into_a_handshake_holds() -> None:
    async with MeshPair(permissions=ALLOW) as m:
        assert b" 200 " not in await asked(m, lambda: m.b.update(m.inbound(DENY)))
        assert m.app.requests == []


async def test_leave_that_falls_into_a_handshake_holds() -> None:
    async with MeshPair(permissions=DENY) as m:
        answer = await asked(m, lambda: m.b.update(m.inbound(ALLOW)))
        assert answer.startswith(b"HTTP/1.1 200")


async def test_a_revocation_that_falls_into_a_handshake_holds() -> None:
    async with MeshPair(permissions=ALLOW) as m:
        revoked = m.authority.trust(c.Revoked(spiffe=m.authority.spiffe("web/a/web-1")))
        assert b" 200 " not in await asked(m, lambda: m.b.update(revoked))
        assert m.app.requests == []
