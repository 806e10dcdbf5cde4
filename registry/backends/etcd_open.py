"""An etcd as a host's configuration names it: the store, with account and TLS from files."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from registry.errors import Denied
from registry.tls_files import Files

try:
    from registry.backends.etcd import EtcdStore
    from registry.backends.etcd_links import Backoff, Tls, secure
except ImportError as error:  # an optional dependency: whoever configures it is told, not shown a traceback
    raise Denied(f"Kind: etcd needs grpcio and protobuf, pip install 'meshd[etcd]': {error}") from error


class Settings(Protocol):
    """What a host's configuration says of its registry. Files may be empty; all are read again when they change."""

    @property
    def all_addresses(self) -> tuple[str, ...]: ...
    @property
    def token_file(self) -> str: ...
    @property
    def ca_file(self) -> str: ...
    @property
    def cert_file(self) -> str: ...
    @property
    def key_file(self) -> str: ...


def open_etcd(settings: Settings, pause: Callable[[float], Awaitable[None]] = asyncio.sleep) -> EtcdStore:
    """Nothing is asked yet: a host starts without its registry. Raises Denied naming a file that cannot be used."""
    read = tls(settings)
    try:
        read()
        if settings.token_file and not Path(settings.token_file).read_text().strip():
            raise Denied(f"TokenFile {settings.token_file}: is empty, `name:password` is wanted")
    except (OSError, UnicodeDecodeError) as error:
        raise Denied(f"a file of the registry's settings cannot be read: {error}") from error

    def account() -> str | None:
        return Path(settings.token_file).read_text() if settings.token_file else None

    try:
        return EtcdStore(settings.all_addresses, token=account, tls=read, backoff=Backoff(pause=pause))
    except ValueError as error:
        raise Denied(str(error)) from error


def tls(settings: Settings) -> Callable[[], Tls | None]:
    """Reads the files each time it is called; None: plaintext. Without KeyFile, CertFile holds both."""

    def read() -> Tls | None:
        if not (secure(settings.all_addresses) or settings.ca_file or settings.cert_file):
            return None
        files = Files(settings.ca_file, settings.cert_file, settings.key_file)
        return Tls(_bytes(files.ca), _bytes(files.cert), _bytes(files.key or files.cert), files)

    return read


def _bytes(path: str) -> bytes | None:
    return Path(path).read_bytes() if path else None
