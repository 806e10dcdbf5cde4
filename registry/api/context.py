"""What the handlers share: their dependencies, who calls, and the two checks that every request passes."""

import ipaddress
import random
import socket
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from aiohttp import web
from aiohttp.typedefs import Handler

from registry import keys
from registry.api import access, answers, sockets
from registry.api.access import Access, Action, Allow, Caller, Decision, Refuse
from registry.api.agent import Agent
from registry.api.answers import Problem
from registry.api.blocking import Query, Scope, Waits, parse
from registry.catalog import Catalog
from registry.store import SessionStore

CALLER = web.RequestKey("caller", Caller)
TARGETLESS = frozenset((Action.STATUS, Action.CATALOG, Action.AGENT_READ, Action.SESSION_READ,
                        Action.SESSION_CREATE, Action.TXN))  # fmt: skip

Routes = Mapping[str, Handler]  # by access.Route.name


def no_token(_token: str) -> str | None:
    return None


def no_certificate(_der: bytes) -> str | None:
    return None


@dataclass(frozen=True)
class Deps:
    """What the API is built over.

    `verify_token`: the operator named in a valid token, else None. `identify`: the node that a verified peer
    certificate (DER) speaks for, else None (also when it is revoked). `store_as`: the store under the caller's own
    token, where the registry is on another host. `own_addresses`: this host's, allowed as check targets.
    `min_session_ttl` in seconds. `leader`: address:port shown as the leader.
    """

    store: SessionStore
    catalog: Catalog
    agent: Agent
    access: Access
    node: str
    datacenter: str = "dc1"
    verify_token: Callable[[str], str | None] = no_token
    identify: Callable[[bytes], str | None] = no_certificate
    store_as: Callable[[str], SessionStore] | None = None
    own_addresses: frozenset[str] = frozenset()
    min_session_ttl: float = 10.0
    leader: str = "127.0.0.1:15444"
    random: Callable[[], float] = random.random


@dataclass(frozen=True)
class Context:
    """One application's dependencies and running waits. `peer`: the application of 15444."""

    deps: Deps
    waits: Waits
    peer: bool

    def check(self, request: web.Request, action: Action, target: str = "") -> None:
        """Raises Problem 403 when the caller may not do this."""
        decision = self.decide(request, action, target)
        if isinstance(decision, Refuse):
            raise answers.refused(decision)

    def allows(self, request: web.Request, action: Action, target: str) -> bool:
        return isinstance(self.decide(request, action, target), Allow)

    def decide(self, request: web.Request, action: Action, target: str) -> Decision:
        return access.decide(self.deps.access, request[CALLER], action, target)

    def store(self, request: web.Request) -> SessionStore:
        """The store; with the caller's token where one is needed to write, so that ours is never lent."""
        token = token_of(request)
        if self.deps.store_as is not None and token and request[CALLER].operator:
            return self.deps.store_as(token)
        return self.deps.store

    async def wait(self, request: web.Request, *scopes: Scope) -> int:
        """The index of `scopes` for this read, after the wait that its query asks for."""
        query: Query = parse(request.query)
        return await self.waits.index(self.deps.store, query, scopes)

    def caller(self, request: web.Request, action: Action) -> Caller:
        """Who asks. Raises Problem 403 for a token that is not valid: it must not be taken for none at all."""
        operator = ""
        token = token_of(request)
        if token:
            operator = self.deps.verify_token(token) or ""
            if not operator and (self.peer or not self.deps.access.open):
                raise Problem(403, "ACL not found: the token is not valid here", hint="meshctl token create --operator")
        caller = self._peer(request) if self.peer else self._local(request, action)
        return Caller(caller.kind, caller.uid, caller.node, operator)

    def _peer(self, request: web.Request) -> Caller:
        tls = request.get_extra_info("ssl_object")
        der = tls.getpeercert(binary_form=True) if tls is not None else None
        node = self.deps.identify(der) if der else None
        return Caller("node", node=node) if node else Caller("anonymous")

    def _local(self, request: web.Request, action: Action) -> Caller:
        sock = request.get_extra_info("socket")
        if sock is not None and sock.family == socket.AF_UNIX:
            peer = sockets.unix_peer(sock)
            rules = self.deps.access
            admin = peer.uid in rules.admin_uids or not rules.admin_gids.isdisjoint(peer.gids)
            return Caller("admin" if admin else "local", uid=peer.uid)
        # asked for only where it decides something: it costs a question to the kernel
        named = action is Action.REGISTER and sock is not None
        return Caller("local", uid=sockets.tcp_uid(sock.getpeername(), sock.getsockname()) if named else None)

    def guard(self, request: web.Request) -> None:
        """What no caller may send, whoever it is: browsers' cross-site requests, foreign Hosts, packed bodies."""
        if request.headers.get("Content-Encoding", "identity").lower() != "identity":
            # a small packed body can be a large one (CVE-2025-69223); nobody needs it here
            raise Problem(415, "packed request bodies are not taken", "Content-Encoding", "send the body as it is")
        sock = request.get_extra_info("socket")
        if self.peer or sock is None or sock.family == socket.AF_UNIX:
            return
        if "Origin" in request.headers or request.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin"):
            raise Problem(403, "requests of web pages are refused", "Origin", "use curl, the CLI or api.sock")
        if not self._own_host(request.host, str(sock.getsockname()[0])):
            raise Problem(403, f"Host {request.host[:80]!r} is not this API", "Host", "use localhost or the address")

    def _own_host(self, host: str, here: str) -> bool:
        name = host.rpartition(":")[0] if not host.endswith("]") and ":" in host else host
        name = name.strip("[]").lower()
        if name == "localhost" or name in self.deps.access.hosts:
            return True
        try:
            address = ipaddress.ip_address(name)
        except ValueError:
            return False
        return address.is_loopback or str(address) == here


def token_of(request: web.Request) -> str:
    """`X-Consul-Token`, or a bearer token. Never from the query: URLs are logged."""
    token = request.headers.get("X-Consul-Token", "")
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    return token or (bearer.strip() if scheme.lower() == "bearer" else "")


def key_of(request: web.Request) -> str:
    """The key or prefix in the path, decoded once. Raises Problem 400 for what is outside the alphabet."""
    key = request.match_info["key"]
    if key and not keys.valid_key(key):
        raise Problem(400, f"Invalid key {key[:120]!r}", "key", "[A-Za-z0-9._/-], no empty, '.' or '..' segment")
    return key
