"""Making and logging one certificate: with the store, or without it for a short while.

The order is the point: a certificate is in a log that outlives a crash before anybody holds it.
"""

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from registry.ca import bundle, certificate, csr, journal, names
from registry.ca.certificate import Lifetimes, Signer, Window
from registry.ca.entitlement import Entitlement
from registry.ca.svid import Svid
from registry.errors import Conflict
from registry.store import Store


@dataclass(frozen=True)
class Order:
    """What to sign and why. `not_before`: a revocation's From, before which nothing may be dated."""

    identity: names.Identity
    key: ec.EllipticCurvePublicKey
    action: str
    grant: Entitlement | None = None
    token: str = ""
    not_before: float = 0.0


@dataclass(frozen=True)
class Signed:
    """A certificate handed out: chain as PEM (leaf, issuer), end in Unix seconds. `offline`: come again soon."""

    chain: str
    identity: names.Identity
    serial: str
    not_after: float
    offline: bool


class Issuance:
    """Signs with the issuer's key as authority `by`."""

    def __init__(
        self, signer: Signer, by: str, store: Store, log: journal.Journal, lifetimes: Lifetimes | None = None
    ) -> None:
        self._signer = signer
        self._by = by
        self._store = store
        self._log = log
        self._lifetimes = lifetimes or Lifetimes()

    @property
    def issuer(self) -> x509.Certificate:
        return self._signer.certificate

    def renewed(self, signer: Signer) -> None:
        """Go on with a renewed issuer certificate (or another key, after a new issuer was signed)."""
        self._signer = signer

    async def online(self, order: Order, now: float) -> Signed:
        """Full lifetime, logged in the store first. Raises Unavailable: nothing was handed out."""
        life = {"service": self._lifetimes.service, "node": self._lifetimes.node, "role": self._lifetimes.role}
        valid = certificate.window(now, life[order.identity.kind], self._signer.certificate)
        leaf = self._sign(order, valid)
        await journal.publish(self._store, self._entry(order, leaf, now, offline=False))
        return self._signed(order, leaf, offline=False)

    async def offline(self, order: Order, held: Svid, now: float) -> Signed:
        """As long as the certificate that it replaces, or 24 h from now if that is more; logged on this disk first."""
        end = max(held.not_after, certificate.window(now, self._lifetimes.offline).not_after)
        end = min(end, self._signer.certificate.not_valid_after_utc.timestamp())
        leaf = self._sign(order, Window(now - certificate.BACKDATE, end))
        await asyncio.to_thread(self._log.append, self._entry(order, leaf, now, offline=True))
        return self._signed(order, leaf, offline=True)

    async def fill(self, now: Callable[[], float]) -> int:
        """Put into the store what was issued without it. Returns how many. Raises Unavailable: try again later."""
        owed = await asyncio.to_thread(self._log.pending)
        for item in owed:
            with suppress(Conflict):  # somebody wrote that key first: the journal here keeps the truth
                await journal.publish(self._store, item)
            await asyncio.to_thread(self._log.append, journal.Filled(at=now(), serial=item.serial))
        return len(owed)

    def _sign(self, order: Order, valid: Window) -> x509.Certificate:
        """Backdated for slow clocks, but never behind a revocation: that would revoke what replaces it."""
        valid = Window(max(valid.not_before, order.not_before), valid.not_after)
        serial = x509.random_serial_number()
        return certificate.leaf(certificate.Leaf(order.identity, order.key, valid, serial, order.grant), self._signer)

    def _entry(self, order: Order, leaf: x509.Certificate, now: float, *, offline: bool) -> journal.Issued:
        return journal.Issued(
            at=now,
            serial=certificate.serial_hex(leaf),
            identity=order.identity.uri,
            node=order.identity.node,
            not_before=leaf.not_valid_before_utc.timestamp(),
            not_after=leaf.not_valid_after_utc.timestamp(),
            action=order.action,
            key=csr.fingerprint(order.key),
            by=self._by,
            offline=offline,
            token=order.token,
        )

    def _signed(self, order: Order, leaf: x509.Certificate, *, offline: bool) -> Signed:
        return Signed(
            chain=bundle.write_pem([leaf, self._signer.certificate]),
            identity=order.identity,
            serial=certificate.serial_hex(leaf),
            not_after=leaf.not_valid_after_utc.timestamp(),
            offline=offline,
        )
