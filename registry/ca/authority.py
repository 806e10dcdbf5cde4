"""The authority: who may have which certificate.

It believes three things only: tokens signed with its own issuer's key, node certificates (and the entitlement in
them), and, for services, the registry's word that this node registered this instance, within that entitlement.
The store alone, or a node alone, gets nothing signed. Every refusal is logged and goes into the journal.
"""

import asyncio
import logging
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace

import msgspec
from cryptography import x509

from registry import keys
from registry.ca import csr, entitlement, journal, names, rotation, spent, token
from registry.ca.certificate import Lifetimes, Signer
from registry.ca.files import Layout, load, load_trust_domain, read_certificates
from registry.ca.gate import Audit, Gate
from registry.ca.issuance import Issuance, Order, Signed
from registry.ca.svid import Svid
from registry.errors import Conflict, Denied, Unavailable
from registry.model import Instance
from registry.store import Store

InstanceLookup = Callable[[str, str, str], Awaitable[Instance | None]]
FILL_EVERY = 60.0  # seconds between looks at what the store's log still lacks


@dataclass(frozen=True)
class Deps:
    """What the authority works with. `instance_lookup(service, node, id)` raises Unavailable when nobody knows.

    `issuers`: certificates of the other authorities, whose tokens count here too (their chains checked by the caller).
    """

    store: Store
    instance_lookup: InstanceLookup
    now: Callable[[], float]
    log: logging.Logger = field(default_factory=lambda: logging.getLogger("registry.ca"))
    lifetimes: Lifetimes = field(default_factory=Lifetimes)
    issuers: tuple[x509.Certificate, ...] = ()


class Authority:
    """Signs for one trust domain as host `node`, with the key and the files of one DataDir."""

    def __init__(self, layout: Layout, node: str, deps: Deps) -> None:
        """Raises NotFound, Denied or Corrupt when the files of `meshctl ca init` are missing or unusable."""
        issuer = load(layout.issuer)
        self.trust_domain = load_trust_domain(layout)
        self._layout = layout
        self._node = node
        self._deps = deps
        book = journal.Journal(layout.journal)
        self._signer = Signer(issuer.leaf, issuer.key)
        self._issuance = Issuance(self._signer, node, deps.store, book, deps.lifetimes)
        self._audit = Audit(deps.log, book, deps.now)
        roots = read_certificates(layout.roots)
        self._gate = Gate(self.trust_domain, roots, layout.revocations, deps.store, deps.now, self._audit)

    # ---- tokens -------------------------------------------------------------------------------------------------

    def join_token(self, node: str, grant: entitlement.Entitlement, ttl: float) -> str:
        """A token with which one host may join once as `node` within `ttl` seconds. Raises Denied for bad values."""
        claims = token.Join(
            id=secrets.token_hex(16),
            issuer=token.issuer_id(self._signer.certificate),
            trust_domain=self.trust_domain,
            expires=self._expires(ttl),
            node=node,
            services=grant.services,
            roles=grant.roles,
        )
        return self._token(claims)

    def operator_token(self, name: str, ttl: float) -> str:
        """A bearer token for an operator. Raises Denied for bad values."""
        claims = token.Operator(
            id=secrets.token_hex(16),
            issuer=token.issuer_id(self._signer.certificate),
            trust_domain=self.trust_domain,
            expires=self._expires(ttl),
            name=name,
        )
        return self._token(claims)

    def verify_operator(self, text: str) -> str | None:
        """The operator's name, or None."""
        return token.Operators(self.trust_domain, self._issuers()).verify(text, self._deps.now())

    # ---- certificates -------------------------------------------------------------------------------------------

    async def join(self, text: str, request: str, who: str) -> Signed:
        """A node certificate for a one-time token. Raises Denied, Unavailable (the store must record the token)."""
        now = self._deps.now()
        try:
            claims = token.verify(text, self._issuers(), self.trust_domain, now)
        except token.BadToken as error:
            raise await self._audit.refused("join", who, str(error)) from error
        if not isinstance(claims, token.Join):
            raise await self._audit.refused("join", who, f"token {claims.id} is an operator's, not for joining")
        key = await self._gate.key("join", who, request)
        identity = names.node(self.trust_domain, claims.node)
        revoked = await self._gate.revocations()
        order = Order(identity, key, "join", claims.grant, claims.id, await self._gate.since(identity, revoked, who))
        record = msgspec.json.encode({"Node": claims.node, "At": rotation.stamp(now), "By": self._node})
        try:
            await self._deps.store.put(keys.CA_TOKENS_USED + claims.id, record, expect=0)
            await asyncio.to_thread(spent.use, self._layout.used_tokens, claims.id, claims.expires, now)
        except Conflict as error:
            why = f"token {claims.id} was used before: make a new one (meshctl token create)"
            raise await self._audit.refused("join", who, why) from error
        return await self._issuance.online(order, now)

    async def exchange(self, chain: str, request: str, who: str) -> Signed:
        """A new node certificate for one that expired less than 90 days ago, with the same key."""
        now = self._deps.now()
        held = await self._gate.held("exchange", who, chain, expired=True)
        key = await self._gate.key("exchange", who, request)
        if held.identity.kind != "node" or csr.fingerprint(key) != csr.fingerprint(held.key):
            raise await self._audit.refused(
                "exchange", who, "only a node certificate, with its own key, can be exchanged"
            )
        if not rotation.exchangeable(now, held.not_after):
            why = f"expired at {rotation.stamp(held.not_after)}, too long ago: join again with a new token"
            raise await self._audit.refused("exchange", held.identity.uri, why)
        revoked = await self._gate.revocations()
        await self._gate.check_revoked("exchange", held, revoked)
        grant = await self._gate.grant("exchange", held)
        since = await self._gate.since(held.identity, revoked, who)
        return await self._issuance.online(Order(held.identity, key, "exchange", grant, not_before=since), now)

    async def renew_node(self, caller: Svid, request: str) -> Signed:
        """A new certificate for the calling node, entitled as before. Without the store: at most 24 h more."""
        grant = await self._gate.caller("renew", caller)
        key = await self._gate.key("renew", caller.identity.uri, request)
        order = Order(caller.identity, key, "renew", grant)
        return await self._issue(order, caller, caller, None)

    async def sign_service(self, caller: Svid, service: str, instance_id: str, request: str, held: str = "") -> Signed:
        """A certificate for an instance of the calling node. `held`: its valid certificate (PEM), if it has one.

        Raises Denied: not entitled, or not registered by this node; Unavailable: the store is needed and away.
        """
        grant = await self._gate.caller("sign", caller)
        who, node = caller.identity.uri, caller.identity.node
        key = await self._gate.key("sign", who, request)
        try:
            identity = names.service(self.trust_domain, service, node, instance_id)
        except names.BadName as error:
            raise await self._audit.refused("sign", who, str(error)) from error
        if not grant.allows_service(service):
            why = (
                f"{node} is not entitled to service {service!r}: join again with a token that names it"
                f" (meshctl token create --node {node} --service {service})"
            )
            raise await self._audit.refused("sign", who, why)

        async def registered() -> str | None:
            found = await self._deps.instance_lookup(service, node, instance_id)
            if found is None or (found.service, found.node, found.id) != (service, node, instance_id):
                return f"{identity.key} is not registered by {node}: register it first"
            return f"{identity.key} is withdrawn: register it again" if found.state == "withdrawn" else None

        return await self._issue(Order(identity, key, "sign"), caller, held, registered)

    async def sign_role(self, caller: Svid, role: str, request: str, held: str = "") -> Signed:
        """A certificate for the calling node in a role that it is entitled to. Raises as `sign_service`."""
        grant = await self._gate.caller("role", caller)
        who = caller.identity.uri
        key = await self._gate.key("role", who, request)
        if not grant.allows_role(role):
            raise await self._audit.refused("role", who, f"{caller.identity.node} is not entitled to role {role!r}")
        identity = names.role(self.trust_domain, role, caller.identity.node)
        return await self._issue(Order(identity, key, "role"), caller, held, None)

    # ---- upkeep -------------------------------------------------------------------------------------------------

    async def fill(self) -> int:
        """Bring the store's log up to date with what was issued without it. Raises Unavailable."""
        return await self._issuance.fill(self._deps.now)

    async def run(self, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> None:
        """Fill the log for ever; never ends by itself."""
        while True:
            try:
                filled = await self.fill()
                if filled:
                    self._deps.log.info("issuance log filled in", extra={"count": filled})
            except (Unavailable, Denied) as error:
                self._deps.log.warning("issuance log cannot be filled in yet", extra={"reason": str(error)})
            await pause(FILL_EVERY)

    def reload(self) -> None:
        """Read issuer and roots again (after `init.refresh`, or a root was accepted). Raises as the constructor."""
        issuer = load(self._layout.issuer)
        self._gate.roots = read_certificates(self._layout.roots)
        self._signer = Signer(issuer.leaf, issuer.key)
        self._issuance.renewed(self._signer)

    @property
    def roots(self) -> tuple[x509.Certificate, ...]:
        return self._gate.roots

    # ---- inside -------------------------------------------------------------------------------------------------

    async def _issue(
        self,
        order: Order,
        caller: Svid,
        held: Svid | str,
        registered: Callable[[], Awaitable[str | None]] | None,
    ) -> Signed:
        """With the store if it answers, else the same identity again against a certificate that still holds."""
        who, now = caller.identity.uri, self._deps.now()
        try:
            revoked = await self._gate.revocations()
            await self._gate.check_revoked(order.action, caller, revoked)
            why = await registered() if registered else None
            if why:
                raise await self._audit.refused(order.action, who, why)
            since = await self._gate.since(order.identity, revoked, who)
            return await self._issuance.online(replace(order, not_before=since), now)
        except Unavailable as error:
            away = error
        if not held:
            raise Unavailable(
                f"{order.identity}: the store cannot be reached ({away}), and without it only renewals against a"
                " certificate that is still valid are signed"
            ) from away
        if isinstance(held, str):  # looked at only here: with the store an old certificate is no obstacle
            held = await self._gate.held(order.action, who, held)
        if held.identity != order.identity:
            why = f"a certificate of {held.identity} does not renew {order.identity}"
            raise await self._audit.refused(order.action, who, why)
        revoked = await asyncio.to_thread(self._gate.last_revocations, away)
        for certificate in (caller, held):
            await self._gate.check_revoked(order.action, certificate, revoked)
        since = await self._gate.since(order.identity, revoked, who)
        signed = await self._issuance.offline(replace(order, not_before=since), held, now)
        extra = {"identity": order.identity.uri, "serial": signed.serial, "not_after": rotation.stamp(signed.not_after)}
        self._deps.log.warning("certificate renewed without the store", extra=extra)
        return signed

    def _issuers(self) -> tuple[x509.Certificate, ...]:
        return (self._issuance.issuer, *self._deps.issuers)

    def _expires(self, ttl: float) -> int:
        if not 0 < ttl <= token.MAX_TTL:
            raise Denied(f"a token lives up to {token.MAX_TTL / 86400:.0f} days, not {ttl / 86400:g}")
        return int(self._deps.now() + ttl)

    def _token(self, claims: token.Claims) -> str:
        try:
            return token.sign(claims, self._signer)
        except token.BadToken as error:
            raise Denied(str(error)) from error
