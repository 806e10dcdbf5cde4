"""python-consul2's HTTP layer over aiohttp: the package's endpoint wrappers, our connections.

Its own transports are no use to a daemon: a connection per request, no private CA, tokens in URLs, and a blocking
query that dies with the client's timeout. Here: kept connections, one `ssl.SSLContext`, unix sockets, the token in a
header, several addresses with fail-over, and a deadline for every request.
"""

import asyncio
import json
import ssl
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import aiohttp
from consul import base  # type: ignore[import-untyped]  # the package has no types
from yarl import URL

from registry import durations
from registry.backends.consul_heart import Heart, Silent
from registry.errors import Denied, NotFound, TooLarge, Unavailable
from registry.tls_files import NO_FILES, Files, TlsFiles, advice

CONNECT = 3.0  # seconds
ANSWER = 10.0  # seconds a request may take beyond what it was asked to wait
GOODBYE = (
    0.5  # seconds for a TLS peer to answer ours: a blocking query that was given up is answered much later, or never
)
DEFAULT_WAIT = 300.0  # seconds: what a server waits when a query has an index and no wait
TOKEN = "X-Consul-Token"
QUESTION = "/v1/status/leader"  # needs no rights and no leader
SCHEMES = ("http", "https", "unix")

Tls = ssl.SSLContext | TlsFiles | None
Callback = Callable[[base.Response], Any]
Params = Iterable[tuple[str, Any]] | Mapping[str, Any] | None


@dataclass(frozen=True)
class Call:
    """One request as python-consul2 makes it; `path` not yet quoted, `params` without a token."""

    method: str
    path: str
    params: tuple[tuple[str, str], ...]
    data: bytes
    headers: Mapping[str, str]

    @property
    def target(self) -> str:
        query = f"?{urlencode(self.params)}" if self.params else ""
        return quote(self.path, safe="/:") + query

    @property
    def waits(self) -> bool:
        """The server answers when something has changed, or after a minute."""
        return any(name == "index" for name, _ in self.params)

    @property
    def deadline(self) -> float:
        """Seconds: the server's wait, its jitter of a sixteenth, and time to answer."""
        given = dict(self.params)
        if not self.waits:
            return ANSWER
        wait = durations.parse(given.get("wait", "")) or DEFAULT_WAIT
        return wait * 17 / 16 + ANSWER


class Link:
    """Connections to one address: http://host:port, https://host:port or unix:///path."""

    def __init__(self, address: str, tls: Tls, server_hostname: str | None) -> None:
        parts = urlsplit(address)
        if parts.scheme not in SCHEMES or not (parts.path if parts.scheme == "unix" else parts.hostname):
            raise ValueError(f"{address!r}: http://host:port, https://host:port or unix:///path is wanted")
        self.address = address
        self._path = parts.path if parts.scheme == "unix" else ""
        self._base = "http://localhost" if self._path else f"{parts.scheme}://{parts.netloc}"
        self._tls = tls
        self._server_hostname = server_hostname if parts.scheme == "https" else None
        self._session: aiohttp.ClientSession | None = None
        self.heart = Heart(self._ask)

    async def send(self, call: Call) -> base.Response:
        """Raises aiohttp.ClientError, TimeoutError, Silent."""
        if not call.waits:
            return await self._send(call)
        async with self.heart.waiting():
            return await self._send(call)

    async def _send(self, call: Call) -> base.Response:
        timeout = aiohttp.ClientTimeout(total=call.deadline, sock_connect=CONNECT)
        session = self._opened()
        # aiohttp would repeat a PUT whose connection breaks: it may have been applied, and loses against itself then
        session._retry_connection = call.method == "GET"
        async with session.request(
            call.method,
            URL(self._base + call.target, encoded=True),
            data=call.data or None,
            headers=call.headers,
            timeout=timeout,
            allow_redirects=False,  # a redirect would carry the token to whoever is named in it
            ssl=self._context(),
            server_hostname=self._server_hostname,
        ) as answer:
            content = await answer.read()
            self.heart.heard()
            return base.Response(answer.status, answer.headers, content.decode("utf-8", "replace"), content)

    async def _ask(self, seconds: float) -> None:
        """Any answer will do. Raises TimeoutError, aiohttp.ClientError."""
        timeout = aiohttp.ClientTimeout(total=seconds)
        if self._opened().closed:
            raise aiohttp.ClientConnectionError("the client is closed")
        async with self._opened().get(
            self._base + QUESTION,
            timeout=timeout,
            allow_redirects=False,
            ssl=self._context(),
            server_hostname=self._server_hostname,
        ) as answer:
            await answer.read()

    def _context(self) -> ssl.SSLContext | bool:
        """What new connections use; kept ones with another are not used again."""
        return (self._tls() if callable(self._tls) else self._tls) or True

    async def close(self) -> None:
        if self._session is not None:
            assert self._session.connector is not None
            await self._session.connector.close(abort_ssl=True)
            await self._session.close()

    def _opened(self) -> aiohttp.ClientSession:
        """Made with the first request: a session belongs to a running loop."""
        if self._session is None:
            connector: aiohttp.BaseConnector
            if self._path:
                connector = aiohttp.UnixConnector(self._path, limit=0)
            else:
                # no limit: each watch holds a connection, and a write must not wait for one of them to end
                connector = aiohttp.TCPConnector(limit=0)
                connector._ssl_shutdown_timeout = GOODBYE  # the argument of that name warns that it will go
            self._session = aiohttp.ClientSession(
                connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False
            )
        return self._session


class Links:
    """The addresses of one registry. The one that answered last is asked first."""

    def __init__(self, addresses: Sequence[str], tls: Tls = None, server_hostname: str | None = None) -> None:
        if not addresses:
            raise ValueError("a registry has at least one address")
        self._links = [Link(address, tls, server_hostname) for address in addresses]
        self._files = tls.files if isinstance(tls, TlsFiles) else NO_FILES
        self._first = 0
        self.closed = False

    async def run(self) -> None:
        """Notice an address that falls silent while it is waited for, for ever."""
        await asyncio.gather(*(link.heart.run() for link in self._links))

    async def send(self, call: Call) -> base.Response:
        """The answer of the first address that gives one. Raises Unavailable naming each address and why not.

        A write goes to a further address only when it cannot have reached the one before.
        """
        reasons: list[str] = []
        for offset in range(len(self._links)):
            number = (self._first + offset) % len(self._links)
            link = self._links[number]
            if self.closed:
                raise Unavailable(f"{link.address}: the client is closed")
            try:
                answer = await link.send(call)
            except (aiohttp.ClientError, TimeoutError, OSError, Silent) as error:
                reasons.append(f"{link.address}: {_reason(error, self._files)}")
                if call.method != "GET" and not isinstance(error, aiohttp.ClientConnectorError):
                    raise Unavailable(f"{call.method} {call.path}: {reasons[-1]}; it may have been applied") from error
                continue
            if answer.code >= 500 and call.method == "GET" and offset + 1 < len(self._links):
                reasons.append(f"{link.address}: {answer.code} {answer.body[:200].strip()}")
                continue
            self._first = number
            return answer
        raise Unavailable(f"{call.method} {call.path}: {'; '.join(reasons)}")

    async def close(self) -> None:
        self.closed = True
        for link in self._links:
            await link.close()
        await asyncio.sleep(0)  # connections say goodbye on the loop's next turn


class Transport(base.HTTPClient):  # type: ignore[misc]  # the package has no types
    """What python-consul2's wrappers call. `token` is asked for each request: it may be rotated on disk."""

    def __init__(self, links: Links, token: Callable[[], str | None]) -> None:
        self.links = links  # the base class's own arguments (host, port, verify) have no meaning here
        self._token = token

    async def request(self, method: str, callback: Callback, path: str, params: Params, data: Any, headers: Any) -> Any:
        pairs = [(str(k), _text(v)) for k, v in (params.items() if isinstance(params, Mapping) else params or ())]
        sent = {**(headers or {}), "Accept-Encoding": "identity"}
        token = sent.pop(TOKEN, None) or next((v for k, v in pairs if k == "token"), None) or self._token()
        if token:
            sent[TOKEN] = token
        body = data.encode() if isinstance(data, str) else data or b""
        call = Call(method, path, tuple(p for p in pairs if p[0] != "token"), body, sent)
        return callback(await self.links.send(call))

    def get(self, callback: Callback, path: str, params: Params = None, headers: Any = None) -> Any:
        return self.request("GET", callback, path, params, None, headers)

    def put(self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None) -> Any:
        return self.request("PUT", callback, path, params, data, headers)

    def delete(self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None) -> Any:
        return self.request("DELETE", callback, path, params, data, headers)

    def post(self, callback: Callback, path: str, params: Params = None, data: Any = "", headers: Any = None) -> Any:
        return self.request("POST", callback, path, params, data, headers)


class Api(base.Consul):  # type: ignore[misc]  # the package has no types
    """The wrappers that the store needs, over our transport (reads of many keys have their own decoder, in C).

    The package's constructor is not run: it lets CONSUL_HTTP_ADDR and CONSUL_HTTP_TOKEN of the environment override
    what the daemon was configured with.
    """

    def __init__(self, transport: Transport) -> None:
        self.http = transport
        self.token = None
        self.dc = None
        self.consistency = "default"
        self.session = base.Consul.Session(self)


def check(answer: base.Response, what: str) -> None:
    """Raise what a status means, naming `what` was asked: Denied, NotFound, TooLarge, Unavailable. 409 passes."""
    if answer.code < 400 or answer.code == 409:
        return
    text = f"{what}: {answer.code} {_said(answer.body)}"
    if answer.code in (400, 401, 403, 405, 415):
        raise Denied(text)
    if answer.code == 404 or (answer.code == 500 and "invalid session" in answer.body):
        raise NotFound(text)
    if answer.code == 413 or (answer.code == 500 and "Invalid Session TTL" in answer.body):
        raise TooLarge(text)
    raise Unavailable(text)


def _said(body: str) -> str:
    """What the server says, in one sentence: the error and the hint of a meshd, the bare text of a Consul."""
    try:
        found = json.loads(body)
        return f"{found['error']} ({found['hint']})" if found.get("hint") else str(found["error"])
    except (ValueError, KeyError, TypeError, AttributeError):
        return body[:500].strip()


def _text(value: Any) -> str:
    return "1" if value is True else str(value)


def _reason(error: BaseException, files: Files) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, Silent):
        return str(error)
    said = f"{type(error).__name__}: {error}"
    mended = advice(said, files)
    return f"{mended} ({said})" if mended else said
