"""Certificates of this host: the node's, its roles', and one for each local instance; renewed long before their end.

All of them live on disk (`registry.ca.files`), so that a start without registry and authority serves with what is
there. Renewal failures are retried with growing pauses and said aloud by how much of a certificate's life is left.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import msgspec
from cryptography import x509

from policies.compiled import Identity, Revoked, Trust
from registry.ca import bundle, client, entitlement, files, names, revocation, rotation, svid, tls
from registry.errors import NotFound, RegistryError
from registry.model import InstanceKey

CHECK_EVERY = 30.0  # seconds between two looks at what is due, when nothing happens
FIRST_RETRY = 0.2  # seconds: an instance that was registered a moment ago is waiting for its first certificate


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Certificate(msgspec.Struct, frozen=True, kw_only=True):
    """One certificate that this host holds. `name` is `node`, `role/<role>` or an instance's."""

    name: str
    credentials: files.Credentials
    svid: svid.Svid
    renew_at: float


class Attempt(msgspec.Struct, frozen=True):
    """Failures in a row, when the next try is due (Unix seconds), and why the last one failed."""

    failures: int
    at: float
    reason: str


class Identities:
    """`follow` says which instances need one; `resources` are those that have. `now` is Unix time."""

    def __init__(
        self,
        layout: files.Layout,
        node: str,
        addresses: tuple[str, ...],
        log: Log,
        now: Callable[[], float],
        chance: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._node = node
        self._log = log
        self._now = now
        self._chance = chance
        self.context = tls.client_context(layout)
        self._place = client.from_files(layout, addresses, now, self.context)
        self._servers: list[tls.ReloadingContext] = []
        self._wanted: frozenset[InstanceKey] = frozenset()
        self._signable: frozenset[InstanceKey] = frozenset()
        self._attempts: dict[str, Attempt] = {}
        self._work = asyncio.Event()
        self._revoked: tuple[Revoked, ...] = ()
        self.revocations = revocation.parse_all({})
        self.certificates: dict[str, Certificate] = {}
        self._shown: dict[str, tuple[Certificate, Identity]] = {}
        self._trust: tuple[tuple[x509.Certificate, ...], Trust] | None = None
        self.on_change: Callable[[], None] = lambda: None
        self._load("node", layout.node)
        if layout.role.certificate.exists():
            self._load("role", layout.role)

    # ---- what others need -----------------------------------------------------------------------------------------

    @property
    def trust_domain(self) -> str:
        return self._place.trust_domain

    @property
    def roots(self) -> tuple[str, ...]:
        return tuple(bundle.write_pem([root]) for root in self._place.roots)

    def server_context(self) -> tls.ReloadingContext:
        """TLS of 15444, kept up to date with renewals and roots."""
        context = tls.server_context(self._layout)
        self._servers.append(context)
        return context

    def resources(self) -> tuple[Identity, ...]:
        """Identities of local instances for the proxy; the same object while the certificate is the same."""
        shown, self._shown = self._shown, {}
        for name in map(str, sorted(self._wanted)):
            held = self.certificates.get(name)
            if held is not None:
                known = shown.get(name)
                self._shown[name] = known if known and known[0] is held else (held, _shown(name, held))
        return tuple(identity for _, identity in self._shown.values())

    def trust(self) -> Trust:
        """The same object while roots and revocations are the same."""
        known, roots = self._trust, self._place.roots
        if known is None or known[0] is not roots or known[1].revoked != self._revoked:
            made = Trust(name="trust", trust_domain=self.trust_domain, roots=self.roots, revoked=self._revoked)
            known = self._trust = (roots, made)
        return known[1]

    def entitled(self, service: str) -> bool:
        """Whether this host's node certificate names the service."""
        return entitlement.decode(self.certificates["node"].svid.certificate).allows_service(service)

    def missing(self) -> tuple[str, ...]:
        """Instances without a certificate that is valid now, with the reason where one is known."""
        found = []
        for key in sorted(self._wanted):
            held = self.certificates.get(str(key))
            if held is None or held.svid.not_after <= self._now():
                attempt = self._attempts.get(str(key))
                found.append(f"{key}: no valid certificate" + (f": {attempt.reason}" if attempt else ""))
        return tuple(found)

    def node_valid(self) -> bool:
        return self.certificates["node"].svid.not_after > self._now()

    def identify(self, der: bytes) -> str | None:
        """The joined host that a verified peer certificate speaks for, unless it is revoked."""
        try:
            peer = svid.read_der(der, self.trust_domain)
        except svid.BadSvid:
            return None
        if peer.identity.kind != "node" or self.revocations.of(peer) is not None:
            return None
        return peer.identity.node

    # ---- what moves it --------------------------------------------------------------------------------------------

    def follow(self, wanted: Iterable[InstanceKey], signable: Iterable[InstanceKey]) -> None:
        """`wanted`: local instances; `signable`: those that the registry knows, so that the authority will sign."""
        before = self._wanted
        self._wanted, signable = frozenset(wanted), frozenset(signable)
        for key in sorted(self._wanted - before):
            self._load_instance(key)
        for key in before - self._wanted:
            self._forget(key)
        if signable - self._signable:
            for key in signable - self._signable:
                self._attempts.pop(str(key), None)
        if (before, self._signable) != (self._wanted, signable):
            self._signable = signable
            self._work.set()

    def learn(self, roots: Mapping[str, bytes], revocations: Mapping[str, bytes]) -> bool:
        """Roots and revocations from the registry; True when the trust resource differs now."""
        before = self.trust()
        accepted, problems = bundle.accept(self._place.roots, roots, self.trust_domain, self._now())
        for key, why in problems.items():
            self._log.warning("root not accepted", key=key, reason=why)
        if accepted and accepted != self._place.roots:
            self._accept_roots(accepted)
        self.revocations = revocation.parse_all(revocations)
        for key, why in self.revocations.problems.items():
            self._log.warning("revocation cannot be read", key=key, reason=why)
        self._revoked = tuple(_revoked(self.revocations))
        return self.trust() != before

    async def run(self) -> None:
        """Ask for what is missing or due, for ever."""
        while True:
            self._work.clear()
            for name in self._due():
                await self._obtain(name)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._until_next()):
                    await self._work.wait()

    # ---- inside ---------------------------------------------------------------------------------------------------

    def _names(self) -> list[str]:
        """What should have a certificate and can be asked for."""
        fixed = ["node"] + (["role"] if "role" in self.certificates else [])
        return fixed + [str(key) for key in sorted(self._wanted & self._signable)]

    def _due(self) -> list[str]:
        return [name for name in self._names() if self._due_at(name) <= self._now()]

    def _due_at(self, name: str) -> float:
        attempt = self._attempts.get(name)
        if attempt is not None:
            return attempt.at
        held = self.certificates.get(name)
        return held.renew_at if held is not None else 0.0

    def _until_next(self) -> float:
        due = min((self._due_at(name) for name in self._names()), default=self._now() + CHECK_EVERY)
        return max(0.0, min(CHECK_EVERY, due - self._now()))

    async def _obtain(self, name: str) -> None:
        try:
            granted = await self._ask(name)
            await asyncio.to_thread(files.save, self._pair(name), granted.credentials)
        except RegistryError as error:
            self._failed(name, error)
            return
        self._attempts.pop(name, None)
        self._keep(name, granted.credentials, granted.svid)
        if granted.offline:
            self._log.warning("certificate signed without the registry", name=name)
        self._log.info("certificate", name=name, spiffe=granted.svid.identity.uri, until=granted.svid.not_after)
        if name in ("node", "role"):
            self._reload()
        else:
            self.on_change()

    async def _ask(self, name: str) -> client.Granted:
        held = self.certificates.get(name)
        usable = held.credentials if held is not None and held.svid.not_after > self._now() else None
        if name == "node" and held is not None:
            return await client.renew_node(self._place, held.credentials)
        if name == "role" and held is not None:
            return await client.sign_role(self._place, self._node, held.svid.identity.role, usable)
        key = self._key(name)
        return await client.sign_service(self._place, self._node, key.service, key.id, usable)

    def _failed(self, name: str, error: RegistryError) -> None:
        before = self._attempts.get(name)
        failures = (before.failures if before else 0) + 1
        pause = FIRST_RETRY * failures if failures < 5 else rotation.retry_in(failures - 4, self._chance())
        self._attempts[name] = Attempt(failures, self._now() + pause, str(error))
        held = self.certificates.get(name)
        level = (
            rotation.level(self._now(), held.svid.not_before, held.svid.not_after) if held is not None else "missing"
        )
        if failures == 1 or level not in ("fine", "missing"):
            self._log.error("certificate cannot be had", name=name, level=level, error=str(error), failures=failures)

    def _key(self, name: str) -> InstanceKey:
        return InstanceKey(*name.split("/", 2))

    def _pair(self, name: str) -> files.Pair:
        if name == "node":
            return self._layout.node
        if name == "role":
            return self._layout.role
        key = self._key(name)
        return self._layout.service(key.service, key.id)

    def _load(self, name: str, pair: files.Pair) -> None:
        """Raises RegistryError or BadSvid: the caller decides whether the host can live without."""
        held = files.load(pair)
        self._keep(name, held, svid.read(held.leaf, self.trust_domain))

    def _load_instance(self, key: InstanceKey) -> None:
        try:
            self._load(str(key), self._layout.service(key.service, key.id))
        except NotFound:
            return
        except (RegistryError, svid.BadSvid) as error:
            self._log.warning("certificate on disk cannot be used", instance=str(key), error=str(error))
        held = self.certificates.get(str(key))
        if held is not None and held.svid.identity.uri != names.service_id(
            self.trust_domain, key.service, key.node, key.id
        ):
            del self.certificates[str(key)]  # left by another node's name or an older service of this id

    def _keep(self, name: str, credentials: files.Credentials, read: svid.Svid) -> None:
        renew = rotation.renew_at(read.not_before, read.not_after, read.identity.kind, self._chance())
        self.certificates[name] = Certificate(name=name, credentials=credentials, svid=read, renew_at=renew)

    def _forget(self, key: InstanceKey) -> None:
        self.certificates.pop(str(key), None)
        self._attempts.pop(str(key), None)
        with contextlib.suppress(RegistryError, OSError):
            files.forget(self._layout.service(key.service, key.id))

    def _accept_roots(self, accepted: tuple[x509.Certificate, ...]) -> None:
        files.save_trust(self._layout, accepted, self.trust_domain)
        self._log.info("roots", hashes=[bundle.root_hash(root) for root in accepted])
        self._reload()

    def _reload(self) -> None:
        """New connections use the new files; open ones stay."""
        for context in (self.context, *self._servers):
            try:
                context.reload()
            except (RegistryError, OSError) as error:
                self._log.error("TLS files cannot be used", error=str(error))
        self._place = client.from_files(self._layout, self._place.addresses, self._now, self.context)
        self.on_change()


def _revoked(found: revocation.Revocations) -> Iterable[Revoked]:
    """For the proxy: `before_ms` 0 covers all certificates of an identity, whenever issued."""
    for uri, item in sorted(found.identities.items()):
        yield Revoked(spiffe=uri, before_ms=0 if item.from_ is None else int(item.before * 1000))
    for serial in sorted(found.serials):
        yield Revoked(serial=serial)


def _shown(name: str, held: Certificate) -> Identity:
    """As the proxy gets it."""
    return Identity(
        name=name,
        spiffe=held.svid.identity.uri,
        certificate=held.credentials.chain_pem,
        private_key=held.credentials.key_pem,
    )
