"""What a host keeps of its identity on disk, and how: below DataDir, files 0600, directories 0700, atomic writes.

    identity/node.key node.crt roots.pem trust-domain role.key role.crt
    identity/svc/<service>/<id>.key .crt
    ca/root.key root.crt issuer.key issuer.crt store-id store-claimed journal.jsonl revocations.json used/  (authority)

A `.crt` holds the leaf and its issuer. A key and its certificate are two files and change together: the new key
waits as `<name>.key.next` while the certificate is replaced, so a crash at any point leaves a pair that loads.
"""

import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)

from registry import keys
from registry.ca import bundle, names
from registry.errors import Corrupt, Denied, NotFound, Unavailable

_FILE_MODE = 0o600
_DIR_MODE = 0o700
_MAX_FILE = 1024 * 1024


@dataclass(frozen=True)
class Credentials:
    """A key and its certificate chain (leaf first), which belong together."""

    key: ec.EllipticCurvePrivateKey
    chain: tuple[x509.Certificate, ...]

    @property
    def leaf(self) -> x509.Certificate:
        return self.chain[0]

    @property
    def key_pem(self) -> str:
        """PKCS#8. A secret: it goes to the proxy and to files, never into a log."""
        return key_pem(self.key)

    @property
    def chain_pem(self) -> str:
        return bundle.write_pem(self.chain)


@dataclass(frozen=True)
class Pair:
    """Where a key and its certificate lie."""

    key: Path
    certificate: Path

    @property
    def next_key(self) -> Path:
        return self.key.with_name(self.key.name + ".next")


@dataclass(frozen=True)
class Layout:
    """The paths below one DataDir."""

    data_dir: Path

    @property
    def identity(self) -> Path:
        return self.data_dir / "identity"

    @property
    def authority(self) -> Path:
        return self.data_dir / "ca"

    @property
    def node(self) -> Pair:
        return Pair(self.identity / "node.key", self.identity / "node.crt")

    @property
    def role(self) -> Pair:
        return Pair(self.identity / "role.key", self.identity / "role.crt")

    @property
    def roots(self) -> Path:
        return self.identity / "roots.pem"

    @property
    def trust_domain(self) -> Path:
        return self.identity / "trust-domain"

    @property
    def root(self) -> Pair:
        return Pair(self.authority / "root.key", self.authority / "root.crt")

    @property
    def issuer(self) -> Pair:
        return Pair(self.authority / "issuer.key", self.authority / "issuer.crt")

    @property
    def store_id(self) -> Path:
        return self.authority / "store-id"

    @property
    def store_claimed(self) -> Path:
        """Exists once the store has had our id: from then on a store without one has been wiped."""
        return self.authority / "store-claimed"

    @property
    def journal(self) -> Path:
        return self.authority / "journal.jsonl"

    @property
    def revocations(self) -> Path:
        return self.authority / "revocations.json"

    @property
    def used_tokens(self) -> Path:
        return self.authority / "used"

    def service(self, service: str, instance_id: str) -> Pair:
        """Raises Denied for what is no name: it would be a path."""
        for name in (service, instance_id):
            if not keys.valid_name(name):
                raise Denied(f"{name!r} is no name of a service or an instance")
        folder = self.identity / "svc" / service
        return Pair(folder / f"{instance_id}.key", folder / f"{instance_id}.crt")


def key_pem(key: ec.EllipticCurvePrivateKey) -> str:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def write(path: Path, data: bytes) -> None:
    """Replace a file at once and durably. Raises Unavailable with the reason (disk full, no right)."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        _make_directory(path.parent)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, _FILE_MODE)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(file.fileno(), _FILE_MODE)  # whatever umask or a left-over file said
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        sync_directory(path.parent)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise Unavailable(f"{path} cannot be written: {error.strerror}") from error


def read(path: Path, *, most: int = _MAX_FILE) -> bytes:
    """A private file, `most` bytes of it at most.

    Raises NotFound, Unavailable, Denied (open to others; says the command that closes it).
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        try:
            status = os.fstat(descriptor)
            _check_private(path, status)
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read(min(most, status.st_size))
        finally:
            os.close(descriptor)
    except FileNotFoundError as error:
        raise NotFound(f"{path} does not exist") from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}") from error


def read_key(path: Path) -> ec.EllipticCurvePrivateKey:
    """A P-256 key (PEM). Raises as `read`, and Corrupt."""
    data = read(path)
    try:
        key = load_pem_private_key(data, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise Corrupt(f"{path} holds no unencrypted PEM key") from error  # its text may quote key bytes: not repeated
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise Corrupt(f"{path} holds no ECDSA P-256 key")
    return key


def read_certificates(path: Path) -> tuple[x509.Certificate, ...]:
    """At least one certificate. Raises as `read`, and Corrupt."""
    try:
        found = bundle.read_pem(read(path))
    except Corrupt as error:
        raise Corrupt(f"{path}: {error}") from error
    if not found:
        raise Corrupt(f"{path} holds no certificate")
    return found


def load(pair: Pair) -> Credentials:
    """A key with its certificate; finishes a change that a crash interrupted. Raises as `read`, and Corrupt."""
    chain = read_certificates(pair.certificate)
    key = read_key(pair.key) if pair.key.exists() or not pair.next_key.exists() else None
    if key is not None and key.public_key() == chain[0].public_key():
        return Credentials(key, chain)
    if pair.next_key.exists():
        following = read_key(pair.next_key)
        if following.public_key() == chain[0].public_key():
            pair.next_key.replace(pair.key)
            sync_directory(pair.key.parent)
            return Credentials(following, chain)
    raise Corrupt(
        f"{pair.key} does not belong to {pair.certificate}: restore the pair from one backup, or remove both and"
        " join (or ask for the certificate) again"
    )


def save(pair: Pair, credentials: Credentials) -> None:
    """Store a pair so that a crash leaves the old or the new one. Raises Unavailable."""
    write(pair.next_key, credentials.key_pem.encode())
    write(pair.certificate, credentials.chain_pem.encode())
    try:
        pair.next_key.replace(pair.key)
        sync_directory(pair.key.parent)
    except OSError as error:
        raise Unavailable(f"{pair.key} cannot be written: {error.strerror}") from error


def save_trust(layout: Layout, roots: Iterable[x509.Certificate], trust_domain: str) -> None:
    """Store the roots and the trust domain that this host believes."""
    write(layout.roots, bundle.write_pem(roots).encode())
    write(layout.trust_domain, trust_domain.encode() + b"\n")


def load_trust_domain(layout: Layout) -> str:
    """The pinned trust domain. Raises as `read`, and Corrupt."""
    name = read(layout.trust_domain).decode("ascii", "replace").strip()
    if not names.valid_trust_domain(name):
        raise Corrupt(f"{layout.trust_domain} holds no trust domain: {name!r}")
    return name


def forget(pair: Pair) -> None:
    """Remove a pair (an instance is gone for good)."""
    for path in (pair.key, pair.next_key, pair.certificate):
        path.unlink(missing_ok=True)


def sync_directory(path: Path) -> None:
    """Make a rename below `path` survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _make_directory(path: Path) -> None:
    """Only the directories of this layout are private; DataDir above them is the operator's."""
    path.mkdir(mode=_DIR_MODE, parents=True, exist_ok=True)
    for folder in (path, *path.parents):
        if folder.name in ("identity", "ca") or folder.parent.name == "svc" or folder.name == "svc":
            folder.chmod(_DIR_MODE)
        if folder.name in ("identity", "ca"):
            return


def _check_private(path: Path, status: os.stat_result) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise Denied(f"{path} is no regular file")
    if status.st_mode & 0o077:
        raise Denied(f"{path} has mode {status.st_mode & 0o777:04o}, others may read it: chmod 600 {path}")
    if status.st_uid not in (os.geteuid(), 0):
        raise Denied(f"{path} belongs to uid {status.st_uid}, not to {os.geteuid()} or root: chown it")
