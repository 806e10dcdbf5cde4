"""`meshctl ca init`: root, issuer and the first host's certificates, without a store and without a network.

Later runs on the same host: `refresh` renews the issuer with the root's key and `recover` the host's own
certificates, both offline, so that an authority which slept through its renewals comes back by itself.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from registry.ca import bundle, certificate, entitlement, files, names, rotation
from registry.ca.certificate import Lifetimes, Signer, Window
from registry.ca.entitlement import Entitlement
from registry.errors import Conflict, Denied, NotFound

DEFAULTS = Lifetimes()


@dataclass(frozen=True)
class Initialised:
    """What an operator needs next. `root_hash`: RootHash of the joining hosts; `store_id` is put once by meshd."""

    root_hash: str
    store_id: str
    trust_domain: str


@dataclass(frozen=True)
class First:
    """The first host. `roles`: of which it gets one role certificate (the first); services as in a join token."""

    node: str
    trust_domain: str = names.DEFAULT_TRUST_DOMAIN
    roles: Sequence[names.Role] = ("ca", "registry")
    services: Sequence[str] = (entitlement.ANY,)

    @property
    def grant(self) -> Entitlement:
        return Entitlement(services=tuple(self.services), roles=tuple(self.roles))


def init(data_dir: Path, first: First, now: float, lifetimes: Lifetimes = DEFAULTS) -> Initialised:
    """Make everything below `data_dir`. Raises Conflict if there is an authority or identity, Denied for bad names.

    The store id is written last and marks the end: a run that was interrupted before starts over.
    """
    layout = files.Layout(data_dir)
    _check(layout, first)
    root_key, issuer_key = certificate.new_key(), certificate.new_key()
    root = certificate.root(root_key, first.trust_domain, certificate.window(now, lifetimes.root))
    by_root = Signer(root, root_key)
    valid = certificate.window(now, lifetimes.issuer, root)
    issuer = certificate.issuer(issuer_key.public_key(), first.trust_domain, valid, by_root)
    files.save(layout.root, files.Credentials(root_key, (root,)))
    files.save(layout.issuer, files.Credentials(issuer_key, (issuer,)))
    files.save_trust(layout, [root], first.trust_domain)
    _issue_own(layout, first, Signer(issuer, issuer_key), now, lifetimes)
    store_id = secrets.token_hex(16)
    files.write(layout.store_id, store_id.encode() + b"\n")
    return Initialised(bundle.root_hash(root), store_id, first.trust_domain)


def read_store_id(layout: files.Layout) -> str:
    """The id that `init` drew. Raises NotFound on hosts without an authority."""
    return files.read(layout.store_id).decode("ascii", "replace").strip()


def refresh(layout: files.Layout, now: float, lifetimes: Lifetimes = DEFAULTS) -> bool:
    """Renew the issuer's certificate from half its life on: same key, so tokens and chains stay good. True: renewed.

    Raises NotFound without an authority, Corrupt, and Denied when the root itself has expired.
    """
    held = files.load(layout.issuer)
    leaf = held.leaf
    begin, end = leaf.not_valid_before_utc.timestamp(), leaf.not_valid_after_utc.timestamp()
    if rotation.level(now, begin, end) == "fine":
        return False
    root = files.load(layout.root)
    problem = rotation.clock_problem(
        now,
        root.leaf.not_valid_before_utc.timestamp(),
        root.leaf.not_valid_after_utc.timestamp(),
        clock="this host's",
    )
    if problem:
        raise Denied(f"the root {bundle.root_hash(root.leaf)} cannot sign: {problem}")
    valid = certificate.window(now, lifetimes.issuer, root.leaf)
    domain = files.load_trust_domain(layout)
    issuer = certificate.issuer(held.key.public_key(), domain, valid, Signer(root.leaf, root.key))
    files.write(layout.issuer.certificate, bundle.write_pem([issuer]).encode())
    return True


def recover(layout: files.Layout, first: First, now: float, lifetimes: Lifetimes = DEFAULTS) -> None:
    """Make this host's own certificates anew, offline, with the issuer's key (the keys stay). Raises as `refresh`."""
    refresh(layout, now, lifetimes)
    issuer = files.load(layout.issuer)
    _issue_own(layout, first, Signer(issuer.leaf, issuer.key), now, lifetimes)


def _check(layout: files.Layout, first: First) -> None:
    why = entitlement.problem(first.grant)
    if why:
        raise Denied(why)
    try:
        names.node(first.trust_domain, first.node)
    except names.BadName as error:
        raise Denied(str(error)) from error
    if layout.store_id.exists():
        raise Conflict(
            f"{layout.authority} holds an authority already: a second root would cut off every joined host."
            " Move the directory away if that is wanted"
        )
    if layout.node.certificate.exists() and not layout.root.key.exists():
        raise Conflict(f"{layout.identity}: this host has joined another mesh; remove the directory to start a new one")


def _issue_own(layout: files.Layout, first: First, by: Signer, now: float, lifetimes: Lifetimes) -> None:
    node = names.node(first.trust_domain, first.node)
    _save_leaf(layout.node, by, node, certificate.window(now, lifetimes.node, by.certificate), first.grant)
    if first.roles:
        role = names.role(first.trust_domain, first.roles[0], first.node)
        _save_leaf(layout.role, by, role, certificate.window(now, lifetimes.role, by.certificate))


def _save_leaf(
    pair: files.Pair, by: Signer, identity: names.Identity, valid: Window, grant: Entitlement | None = None
) -> None:
    try:
        key = files.read_key(pair.key)
    except NotFound:
        key = certificate.new_key()
    spec = certificate.Leaf(identity, key.public_key(), valid, x509.random_serial_number(), grant)
    files.save(pair, files.Credentials(key, (certificate.leaf(spec, by), by.certificate)))
