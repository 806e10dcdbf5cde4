"""The saved snapshot: what a host knew of the mesh, signed with its node key, for a start without the registry.

    meshd-saved-snapshot 1 <base64 of the signature>
    {...}                                              the body: `Snapshot` as JSON

The signature (ECDSA P-256, SHA-256) covers the first line's words and the body. It keeps out what others left in
DataDir (another host's file, an edited one); whoever holds the node key could write a snapshot anyway.
"""

import base64
import binascii
from collections.abc import Mapping
from pathlib import Path

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from registry import keys, values
from registry.ca import files, svid
from registry.errors import Corrupt
from registry.fold import Fold
from registry.interest import EVERYTHING
from registry.model import Document, Instance, InstanceKey
from registry.store import Entry

MAGIC = b"meshd-saved-snapshot 1"
MAX_FILE = 1024 * 1024 * 1024  # bytes; 100,000 instances are about 50 MB
SIGNED_WITH = ec.ECDSA(hashes.SHA256())


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`heard`: when the registry last spoke, in Unix seconds; `index`: the store index reached by then.

    `followed`: the selectors that it speaks of: a host knows what it follows, not the whole mesh. `vanished`: keys
    that the store had lost although nobody withdrew them; `leases`, `roots`, `revocations` by name.
    """

    node: str
    trust_domain: str
    heard: float
    store_id: str = ""
    index: int = 0
    instances: tuple[Instance, ...] = ()
    vanished: tuple[InstanceKey, ...] = ()
    leases: dict[str, bytes] = {}
    documents: tuple[Document, ...] = ()
    followed: tuple[str, ...] = tuple(sorted(EVERYTHING))
    roots: dict[str, bytes] = {}
    revocations: dict[str, bytes] = {}

    def entries(self) -> Mapping[str, tuple[Entry, ...]]:
        """By prefix, as the store listed them: they are read again by the door that reads the store."""
        documents = {keys.policy(one.kind, one.name): (one.text, one.version) for one in self.documents}
        config = {key: found for key, found in documents.items() if key.startswith(keys.CONFIG)}
        services = {keys.instance(one.service, one.node, one.id): values.write(one) for one in self.instances}
        return {
            keys.SERVICES: _entries(services),
            keys.POLICY: _versioned({key: found for key, found in documents.items() if key not in config}),
            keys.CONFIG: _versioned(config),
            keys.LEASES: _entries({keys.lease(name): value for name, value in self.leases.items()}),
            keys.CA_ROOTS: _entries({keys.CA_ROOTS + name: value for name, value in self.roots.items()}),
            keys.REVOCATIONS: _entries({keys.REVOCATIONS + name: value for name, value in self.revocations.items()}),
            keys.STORE_ID: _entries({keys.STORE_ID: self.store_id.encode()} if self.store_id else {}),
        }


def capture(fold: Fold, *, node: str, trust_domain: str, index: int, heard: float) -> Snapshot:
    """The fold as it is now. Cheap: values are shared, not copied; `write` does the work, off the event loop."""
    return Snapshot(
        node=node,
        trust_domain=trust_domain,
        heard=heard,
        store_id=fold.pinned,
        index=index,
        instances=tuple(fold.instances.values()),
        vanished=tuple(fold.vanished),
        leases=dict(fold.leases),
        followed=tuple(sorted(fold.listed | fold.restored)),
        documents=tuple(fold.documents.values()),
        roots=dict(fold.roots),
        revocations=dict(fold.revocations),
    )


def seal(snapshot: Snapshot, key: ec.EllipticCurvePrivateKey) -> bytes:
    """The signed file."""
    body = msgspec.json.encode(snapshot)
    signature = key.sign(MAGIC + b"\n" + body, SIGNED_WITH)
    return MAGIC + b" " + base64.b64encode(signature) + b"\n" + body


def unseal(data: bytes, holder: svid.Svid) -> Snapshot:
    """Check and read a file. `holder`: this host's certificate. Raises Corrupt saying what is wrong."""
    head, _, body = data.partition(b"\n")
    magic, _, encoded = head.rpartition(b" ")
    if magic != MAGIC:
        raise Corrupt("is no saved snapshot of a version that is known here")
    try:
        holder.key.verify(base64.b64decode(encoded, validate=True), MAGIC + b"\n" + body, SIGNED_WITH)
    except (InvalidSignature, binascii.Error):
        raise Corrupt("is not signed by this host's key: edited, or another host's") from None
    try:
        found = msgspec.json.decode(body, type=Snapshot)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"cannot be read: {error}") from error
    if (found.node, found.trust_domain) != (holder.identity.node, holder.identity.trust_domain):
        raise Corrupt(f"is of host {found.node} in {found.trust_domain}, not of {holder.identity}")
    return found


def write(path: Path, snapshot: Snapshot, layout: files.Layout) -> None:
    """Sign with the node key and replace the file (0600) at once. Blocks. Raises RegistryError."""
    files.write(path, seal(snapshot, files.read_key(layout.node.key)))


def read(path: Path, layout: files.Layout) -> Snapshot:
    """This host's snapshot, checked with the node certificate on disk. Blocks.

    Raises NotFound (there is none), Corrupt (tampered, foreign), Denied (others could read or write it), Unavailable.
    """
    data = files.read(path, most=MAX_FILE)
    certificate = files.read_certificates(layout.node.certificate)[0]
    try:
        holder = svid.read(certificate, files.load_trust_domain(layout))
    except svid.BadSvid as error:
        raise Corrupt(f"{layout.node.certificate}: {error}") from error
    try:
        return unseal(data, holder)
    except Corrupt as error:
        raise Corrupt(f"{path} {error}") from error


def _entries(found: Mapping[str, bytes]) -> tuple[Entry, ...]:
    return tuple(Entry(key=key, value=value, version=0, created=0) for key, value in sorted(found.items()))


def _versioned(found: Mapping[str, tuple[bytes, int]]) -> tuple[Entry, ...]:
    rows = sorted(found.items())
    return tuple(Entry(key=key, value=text, version=version, created=version) for key, (text, version) in rows)
