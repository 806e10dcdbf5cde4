"""The authority over HTTP, mounted on port 15444 beside the registry's API.

    GET  /v1/roots    anybody       {TrustDomain, Roots[], Time}
    POST /v1/join     anybody       {Token, Csr} or {Certificate, Csr} (exchange of an expired node certificate)
    POST /v1/sign     node          {Service, Id, Csr, Certificate?} or {Role, Csr, Certificate?}
    POST /v1/renew    node          {Csr}

Answers {Certificate (chain), Roots[], TrustDomain, Addresses[], Offline, Time}; errors {error, field, hint, time}.
Times are the authority's clock, Unix seconds, so that the other side can print both.
"""

import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

import msgspec
from aiohttp import web

from registry.ca import bundle, svid, tls
from registry.ca.authority import Authority
from registry.ca.issuance import Signed
from registry.ca.svid import Svid
from registry.errors import Conflict, Corrupt, Denied, NotFound, RegistryError, TooLarge, Unavailable

MAX_BODY = 64 * 1024


class _Body(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    csr: str


class JoinBody(_Body, frozen=True, kw_only=True):
    """Exactly one of token and certificate is set."""

    token: str = ""
    certificate: str = ""


class SignBody(_Body, frozen=True, kw_only=True):
    """Service and id, or role. `certificate`: what the caller holds for that name, if it is still valid."""

    service: str = ""
    id: str = ""
    role: str = ""
    certificate: str = ""


class RenewBody(_Body, frozen=True, kw_only=True):
    pass


class RootsAnswer(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    trust_domain: str
    roots: tuple[str, ...]
    time: float


class SignedAnswer(RootsAnswer, frozen=True, kw_only=True):
    certificate: str
    addresses: tuple[str, ...]
    offline: bool


class _BadRequest(Exception):
    def __init__(self, error: str, field: str = "", hint: str = "") -> None:
        super().__init__(error)
        self.field = field
        self.hint = hint


_STATUS: tuple[tuple[type[RegistryError], int], ...] = (
    (Denied, 403),
    (NotFound, 404),
    (Conflict, 409),
    (TooLarge, 413),
    (Unavailable, 503),
    (Corrupt, 500),
)

T = TypeVar("T", bound="_Body")
Handler = Callable[[web.Request], Awaitable[web.Response]]


def routes(
    authority: Authority,
    now: Callable[[], float],
    addresses: Callable[[], Sequence[str]] = tuple,
    log: logging.Logger | None = None,
) -> list[web.RouteDef]:
    """The four routes. `addresses()`: `host:port` of all authorities, which hosts learn with each certificate."""
    desk = _Desk(authority, now, addresses, log or logging.getLogger("registry.ca"))
    return [
        web.get("/v1/roots", desk.guarded(desk.roots)),
        web.post("/v1/join", desk.guarded(desk.join)),
        web.post("/v1/sign", desk.guarded(desk.sign)),
        web.post("/v1/renew", desk.guarded(desk.renew)),
    ]


class _Desk:
    def __init__(
        self,
        authority: Authority,
        now: Callable[[], float],
        addresses: Callable[[], Sequence[str]],
        log: logging.Logger,
    ) -> None:
        self._authority = authority
        self._now = now
        self._addresses = addresses
        self._log = log

    def guarded(self, handler: Handler) -> Handler:
        """Errors as JSON with what to do; the one place where the authority's errors become statuses."""

        async def answer(request: web.Request) -> web.Response:
            try:
                return await handler(request)
            except _BadRequest as error:
                return self._error(400, str(error), error.field, error.hint)
            except RegistryError as error:
                status = next((code for kind, code in _STATUS if isinstance(error, kind)), 500)
                return self._error(status, str(error))

        return answer

    async def roots(self, request: web.Request) -> web.Response:
        pems = tuple(bundle.write_pem([root]) for root in self._authority.roots)
        return _json(RootsAnswer(trust_domain=self._authority.trust_domain, roots=pems, time=self._now()))

    async def join(self, request: web.Request) -> web.Response:
        body = await _read(request, JoinBody)
        who = f"anonymous {request.remote}"
        if bool(body.token) == bool(body.certificate):
            raise _BadRequest("exactly one of Token and Certificate is wanted", "Token", "meshctl token create")
        if body.token:
            return self._signed(await self._authority.join(body.token, body.csr, who))
        return self._signed(await self._authority.exchange(body.certificate, body.csr, who))

    async def sign(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        body = await _read(request, SignBody)
        if body.role and not (body.service or body.id):
            return self._signed(await self._authority.sign_role(caller, body.role, body.csr, body.certificate))
        if body.role or not (body.service and body.id):
            raise _BadRequest("Service and Id are wanted, or Role alone", "Service")
        signed = await self._authority.sign_service(caller, body.service, body.id, body.csr, body.certificate)
        return self._signed(signed)

    async def renew(self, request: web.Request) -> web.Response:
        caller = self._caller(request)
        body = await _read(request, RenewBody)
        return self._signed(await self._authority.renew_node(caller, body.csr))

    def _caller(self, request: web.Request) -> Svid:
        """The caller's identity from its verified TLS certificate. Raises Denied."""
        transport = request.transport
        der = tls.peer_certificate(transport.get_extra_info("ssl_object")) if transport is not None else None
        why = "no client certificate: this needs the certificate of a joined node (meshctl join)"
        if der is not None:
            try:
                return svid.read_der(der, self._authority.trust_domain)
            except svid.BadSvid as error:
                why = f"client certificate: {error}"
        self._log.warning("refused", extra={"action": request.path, "who": str(request.remote), "reason": why})
        raise Denied(why)

    def _signed(self, signed: Signed) -> web.Response:
        return _json(
            SignedAnswer(
                certificate=signed.chain,
                roots=tuple(bundle.write_pem([root]) for root in self._authority.roots),
                trust_domain=self._authority.trust_domain,
                addresses=tuple(self._addresses()),
                offline=signed.offline,
                time=self._now(),
            )
        )

    def _error(self, status: int, error: str, field: str = "", hint: str = "") -> web.Response:
        body = {"error": error, "field": field, "hint": hint, "time": self._now()}
        return web.Response(status=status, body=msgspec.json.encode(body), content_type="application/json")


async def _read(request: web.Request, kind: type[T]) -> T:
    """The body of a request. Raises TooLarge before it is held in memory, and _BadRequest."""
    data = bytearray()
    async for chunk in request.content.iter_chunked(16 * 1024):
        data += chunk
        if len(data) > MAX_BODY:
            raise TooLarge(f"the body is longer than {MAX_BODY} bytes")
    try:
        return msgspec.json.decode(bytes(data), type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise _BadRequest(f"body: {error}", hint=f"a JSON object like {{{', '.join(_fields(kind))}}}") from error


def _fields(kind: type[msgspec.Struct]) -> tuple[str, ...]:
    return kind.__struct_encode_fields__


def _json(answer: RootsAnswer) -> web.Response:
    return web.Response(body=msgspec.json.encode(answer), content_type="application/json")
