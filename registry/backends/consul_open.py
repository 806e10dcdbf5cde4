"""A Consul as a host's configuration names it: the store and the catalogue, with token and TLS from files."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from registry.backends.consul import Backoff
from registry.backends.consul_catalog import ConsulCatalog, Mode
from registry.backends.consul_registry import ConsulRegistry
from registry.errors import Denied
from registry.tls_files import Files, TlsFiles


class Settings(Protocol):
    """What a host's configuration says of its registry. Files may be empty; the token's is read again as it changes."""

    @property
    def all_addresses(self) -> tuple[str, ...]: ...
    @property
    def mode(self) -> str: ...
    @property
    def token_file(self) -> str: ...
    @property
    def ca_file(self) -> str: ...
    @property
    def cert_file(self) -> str: ...
    @property
    def key_file(self) -> str: ...


class TokenFile:
    """An ACL token from a file, read again when the file changes: a rotated token needs no restart."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen = 0
        self._token = ""

    def __call__(self) -> str | None:
        """The token; the last one while the file cannot be read; None: there was none."""
        try:
            changed = self._path.stat().st_mtime_ns
            if changed != self._seen:
                self._token, self._seen = self._path.read_text().strip(), changed
        except (OSError, UnicodeDecodeError):
            pass
        return self._token or None


def open_consul(
    settings: Settings, node: str, address: str, pause: Callable[[float], Awaitable[None]] = asyncio.sleep
) -> tuple[ConsulRegistry, ConsulCatalog]:
    """`node` and `address`: of this host. Nothing is asked yet: a host starts without its registry.

    Raises Denied naming a file that cannot be used.
    """
    token = TokenFile(Path(settings.token_file)) if settings.token_file else None
    if token is not None and token() is None:
        raise Denied(f"TokenFile {settings.token_file}: cannot be read, or is empty")
    store = ConsulRegistry(
        settings.all_addresses, token=token or (lambda: None), ssl=tls(settings), backoff=Backoff(pause=pause)
    )
    mode: Mode = "agentless" if settings.mode == "agentless" else "agent"
    catalog = ConsulCatalog(store, node=node, address=address, mode=mode)
    return store, catalog


def tls(settings: Settings) -> TlsFiles | None:
    """A private authority and a client certificate; None: the system's authorities, and no certificate."""
    if not (settings.ca_file or settings.cert_file):
        return None
    return TlsFiles(Files(settings.ca_file, settings.cert_file, settings.key_file))
