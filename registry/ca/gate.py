"""What every request to the authority has to pass: keys, certificates held, entitlements, revocations.

Each check raises Denied after the refusal was logged and journalled, so that no path can refuse in silence.
"""

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path

import msgspec
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from registry import keys
from registry.ca import bundle, csr, entitlement, files, journal, names, revocation, rotation, svid
from registry.ca.revocation import Revocations
from registry.ca.svid import Svid
from registry.errors import Corrupt, Denied, NotFound, Unavailable
from registry.store import Store


class Audit:
    """Where refusals go: the log (structured, no secrets) and the journal."""

    def __init__(self, log: logging.Logger, book: journal.Journal, now: Callable[[], float]) -> None:
        self.log = log
        self._book = book
        self._now = now

    async def refused(self, action: str, who: str, reason: str) -> Denied:
        """Record a refusal; the caller raises what is returned."""
        self.log.warning("refused", extra={"action": action, "who": who, "reason": reason})
        entry = journal.Refused(at=self._now(), action=action, who=who, reason=reason)
        try:
            await asyncio.to_thread(self._book.append, entry)
        except Unavailable as error:  # a full disk turns no refusal into anything else
            self.log.error("refusal not journalled", extra={"reason": str(error)})
        return Denied(reason)


class Gate:
    """Checks for one trust domain. `file` keeps the revocations seen last for when the store is away."""

    def __init__(
        self,
        trust_domain: str,
        roots: tuple[x509.Certificate, ...],
        file: Path,
        store: Store,
        now: Callable[[], float],
        audit: Audit,
    ) -> None:
        self.roots = roots
        self._trust_domain = trust_domain
        self._file = file
        self._store = store
        self._now = now
        self._audit = audit

    async def caller(self, action: str, caller: Svid) -> entitlement.Entitlement:
        """The entitlement of the calling node; its chain was checked by TLS, its time is checked on each request."""
        if caller.identity.kind != "node" or caller.identity.trust_domain != self._trust_domain:
            raise await self._audit.refused(action, caller.identity.uri, "only nodes of this trust domain may ask")
        why = rotation.clock_problem(self._now(), caller.not_before, caller.not_after, clock="the authority's")
        if why:
            raise await self._audit.refused(action, caller.identity.uri, why)
        return await self.grant(action, caller)

    async def grant(self, action: str, caller: Svid) -> entitlement.Entitlement:
        try:
            return entitlement.decode(caller.certificate)
        except entitlement.BadEntitlement as error:
            raise await self._audit.refused(
                action, caller.identity.uri, f"its entitlement cannot be read: {error}"
            ) from error

    async def key(self, action: str, who: str, request: str) -> ec.EllipticCurvePublicKey:
        try:
            return csr.read(request)
        except csr.BadCsr as error:
            raise await self._audit.refused(action, who, f"certificate request: {error}") from error

    async def held(self, action: str, who: str, chain: str, *, expired: bool = False) -> Svid:
        """A certificate sent as text: chain to our roots, and valid now, or when it still was."""
        now = self._now()
        try:
            certificates = bundle.read_pem(chain.encode())
            if not certificates:
                raise svid.BadSvid("no certificate in it")
            end = certificates[0].not_valid_after_utc.timestamp()
            return svid.verify(certificates, self.roots, self._trust_domain, min(now, end) if expired else now)
        except (svid.BadSvid, Corrupt) as error:
            clock = f"; the authority's clock says {rotation.stamp(now)}"
            raise await self._audit.refused(action, who, f"certificate held: {error}{clock}") from error

    async def revocations(self) -> Revocations:
        """As the store has them now, kept on disk for when it is away. Raises Unavailable."""
        listing = await self._store.list(keys.REVOCATIONS)
        values = {entry.key: entry.value for entry in listing.entries}
        found = revocation.parse_all(values)
        for key, why in found.problems.items():
            self._audit.log.error("revocation cannot be read and has no effect", extra={"key": key, "reason": why})
        await asyncio.to_thread(self._keep, msgspec.json.encode(values, order="sorted"))
        return found

    def _keep(self, data: bytes) -> None:
        try:
            if files.read(self._file) == data:
                return
        except NotFound:
            pass
        files.write(self._file, data)

    def last_revocations(self, away: Unavailable) -> Revocations:
        try:
            values = msgspec.json.decode(files.read(self._file), type=dict[str, bytes])
        except (NotFound, msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"the store cannot be reached ({away}) and revocations were never seen here") from error
        return revocation.parse_all(values)

    async def check_revoked(self, action: str, held: Svid, revoked: Revocations) -> None:
        found = revoked.of(held)
        if found is not None:
            reason = f" ({found.reason})" if found.reason else ""
            raise await self._audit.refused(action, held.identity.uri, f"certificate {held.serial} is revoked{reason}")

    async def since(self, identity: names.Identity, revoked: Revocations, who: str) -> float:
        """From when on certificates of an identity count. Raises Denied if that is not yet, or never."""
        since = revoked.before(identity.uri)
        if since > self._now():
            until = "for good" if since == float("inf") else f"until {rotation.stamp(since)}"
            raise await self._audit.refused("issue", who, f"{identity} is revoked {until}: remove its revocation first")
        return since
