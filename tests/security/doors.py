"""The four ways in that an attacker has, before one recording app: raw bytes go in, exactly what the app got comes out.

    async with Doors() as d:
        async with d.open("foreign") as w: ...

`hop`: an upstream listener, the endpoint behind it in plaintext. `pair`: an upstream listener, mTLS between two
proxies. `foreign`: the inbound mTLS port by a client with a certificate and ALPN http/1.1. `peer`: the same port by
one that says it is a meshd proxy (ALPN meshd-h1).
"""

import asyncio
import json
import ssl
import tempfile
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from policies import compiled as c
from tests.unit.proxy.certs import Leaf, sni
from tests.unit.proxy.echo import Conversation, Handler, Request, ok
from tests.unit.proxy.harness import MeshPair, ProxyHarness, settings
from tests.unit.proxy.wire import Response, Wire

SIDES = ("hop", "pair", "foreign", "peer")
ALPN = {"foreign": "http/1.1", "peer": "meshd-h1"}
CANARY = b"GET /canary HTTP/1.1\r\nhost: api.mesh\r\n\r\n"
ENDED = (asyncio.IncompleteReadError, ConnectionError, ssl.SSLError)


@dataclass
class Recorder:
    """An app that echoes and remembers: requests that came whole, and bytes that were no request."""

    whole: list[Request] = field(default_factory=list)
    odd: list[bytes] = field(default_factory=list)

    async def __call__(self, talk: Conversation) -> None:
        try:
            while (r := await talk.request()) is not None:
                self.whole.append(r)
                await talk.send(ok(b"" if r.method == "HEAD" else r.head + r.body))
        except ValueError:
            self.odd.append(talk.backend.requests[-1].head)


@dataclass
class Seen:
    """What came of one exchange. `status` 0: closed without an answer; `closed`: nothing followed the first answer."""

    status: int
    closed: bool
    answer: Response | None
    requests: list[Request]

    @property
    def targets(self) -> list[str]:
        return [r.target for r in self.requests]


class TlsWire(Wire):
    """A client of the inbound port."""

    def __init__(self, port: int, context: ssl.SSLContext, server_name: str) -> None:
        super().__init__(port)
        self.context, self.server_name = context, server_name

    async def __aenter__(self) -> Self:
        self.reader, self.writer = await asyncio.open_connection(
            self.host, self.port, ssl=self.context, server_hostname=self.server_name, limit=1 << 22
        )
        return self


def client_context(pem: str, alpn: str = "http/1.1") -> ssl.SSLContext:
    """TLS as a client that shows this certificate (`""`: none) and believes any server."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if alpn:
        context.set_alpn_protocols([alpn])
    if pem:
        load(context, pem)
    return context


def load(context: ssl.SSLContext, pem: str) -> ssl.SSLContext:
    """Puts chain and key of `pem` into the context, which reads only files."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "own.pem"
        path.write_text(pem)
        context.load_cert_chain(path)
    return context


def pem(leaf: Leaf) -> str:
    return leaf.chain + leaf.key_pem


class Doors:
    """A pair of proxies and a recording app, with all four ways in and the access logs on."""

    def __init__(
        self,
        *,
        handler: Handler | None = None,
        permissions: c.Permissions | None = None,
        inbound: dict[str, Any] | None = None,
        protocol: str = "http",
    ) -> None:
        self.app = Recorder()
        self.mesh = MeshPair(
            handler=handler or self.app, permissions=permissions, inbound=inbound or {}, protocol=protocol
        )

    async def __aenter__(self) -> Self:
        m = await self.mesh.__aenter__()
        try:
            await self._open(m)
        except BaseException:
            await m.__aexit__(None, None, None)
            raise
        return self

    async def _open(self, m: MeshPair) -> None:
        web = pem(m.authority.instance("web/a/web-1"))
        self.contexts = {side: client_context(web, alpn) for side, alpn in ALPN.items()}
        listener = m.a.listener("plain")
        plain = c.Service(name="plain", protocol="http", upstream=c.Upstream(allow_plaintext=True))
        endpoint = c.Endpoint(name="plain/x/plain-0", id="plain-0", service="plain", node="x", address=m.app.address)
        await m.a.update(settings("a", access_log=self._log(m.a)), plain, endpoint, listener)
        await m.b.update(settings("b", inbound_port=m.inbound_port, explain_denials=True, access_log=self._log(m.b)))
        await m.a.control.event("listener_bound", endpoint=listener.name)
        self.ports = {"hop": listener.port, "pair": m.port}

    @staticmethod
    def _log(proxy: ProxyHarness) -> c.AccessLog:
        return c.AccessLog(path=str(proxy.run_dir / "access.log"))

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.mesh.__aexit__(kind, value, trace)

    def open(self, side: str) -> Wire:
        """A connection by this way in."""
        if side in self.ports:
            return Wire(self.ports[side])
        return TlsWire(self.mesh.inbound_port, self.contexts[side], sni(self.mesh.spiffe))

    def first(self, side: str) -> ProxyHarness:
        """The proxy that meets the client of this side."""
        return self.mesh.a if side in self.ports else self.mesh.b

    async def send(self, side: str, *pieces: bytes, reads: bool = True) -> Seen:
        """Sends on a connection of its own; later pieces only when the app saw a head or the proxy has answered."""
        before, arrived = len(self.app.whole), self.mesh.app.arrived
        arrived.clear()
        async with self.open(side) as w:
            first, *later = pieces
            await w.send(first)
            for piece in later:
                await asyncio.wait_for(arrived.wait(), 5)
                await w.send(piece)
            try:
                answer = await w.response(to_head=first.startswith(b"HEAD ")) if reads else None
                status = answer.status if answer else 0
            except ENDED:
                answer, status = None, 0
            last = answer is None or answer.header("connection") == "close"
            closed = await ends(w) if last else False
        return Seen(status, closed, answer, self.app.whole[before:])

    def log_lines(self) -> list[dict[str, Any]]:
        """All lines of the access logs; these and the proxies' own logs must be one JSON object each."""
        for proxy in (self.mesh.a, self.mesh.b):
            objects(proxy.stderr() + proxy.stdout())
        logs = (proxy.run_dir / "access.log" for proxy in (self.mesh.a, self.mesh.b))
        return [line for path in logs if path.exists() for line in objects(path.read_text())]

    async def logged(self, count: int) -> list[dict[str, Any]]:
        """The access logs' lines, once there are `count` of them."""
        async with asyncio.timeout(5):
            while True:
                if len(lines := self.log_lines()) >= count:
                    return lines
                await asyncio.sleep(0.02)


def objects(text: str) -> list[dict[str, Any]]:
    found = [json.loads(line) for line in text.splitlines()]
    assert all(isinstance(line, dict) for line in found)
    return found


async def ends(w: Wire) -> bool:
    """Whether the connection ends with nothing more said on it."""
    try:
        return await w.rest() == b""
    except ssl.SSLError:
        return True


def request(*lines: str, body: bytes = b"", method: str = "POST", target: str = "/", version: str = "1.1") -> bytes:
    """A request of exactly these header lines, with a Host before them."""
    head = [f"{method} {target} HTTP/{version}", "Host: api.mesh", *lines, "", ""]
    return "\r\n".join(head).encode("latin-1") + body
