"""What this host enforces, for everyone to see: `status/proxies/<node>`, by the host's lease.

Written when it changes, at most once a second; `meshctl apply --wait` reads it.
"""

import asyncio
import hashlib
from collections.abc import Callable
from typing import Protocol

import msgspec

from registry import keys
from registry.errors import RegistryError
from registry.interest import Interest
from registry.store import Store

EVERY = 1.0  # seconds between two writes at the least
RETRY = 2.0


class Held(msgspec.Struct, frozen=True):
    """A document's version that is meant: digest of the stored bytes, and doc_version."""

    digest: str
    version: int


class Rejection(msgspec.Struct, frozen=True):
    """A version that is not in force, and why."""

    digest: str
    version: int
    problems: tuple[str, ...]


class ProxySeen(msgspec.Struct, frozen=True):
    pid: int = 0
    generation: int = 0
    version: str = ""


class HostStatus(msgspec.Struct, frozen=True, kw_only=True):
    """The value of `status/proxies/<node>`. Documents by `<kind>/<name>`; `update`: number of the last Update.

    `interest`: what this host calls and hosts, which says what documents it follows.
    `registries`: those of the host, where it has several, each with why contact is lost (empty: it is not).
    """

    node: str
    version: str
    update: int = 0
    documents: dict[str, Held] = {}
    rejected: dict[str, Rejection] = {}
    interest: Interest = Interest(all_policy=True)
    proxy: ProxySeen = ProxySeen()
    problems: tuple[str, ...] = ()
    registries: dict[str, str] = {}


def digest(text: bytes) -> str:
    """How a document's version is named across hosts: first 32 hex digits of SHA-256 over the stored bytes."""
    return hashlib.sha256(text).hexdigest()[:32]


def read(value: bytes) -> HostStatus | None:
    """Another host's status; None when it cannot be read (a newer meshd)."""
    try:
        return msgspec.json.decode(value, type=HostStatus)
    except msgspec.DecodeError:
        return None


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...


class Publisher:
    """Writes `current()` whenever `changed` was called and it differs from what was written."""

    def __init__(
        self, store: Store, node: str, lease: Callable[[], str | None], current: Callable[[], HostStatus], log: Log
    ) -> None:
        self._store = store
        self._key = keys.status(node)
        self._lease = lease
        self._current = current
        self._log = log
        self._dirty = asyncio.Event()
        self._written: tuple[bytes, str] | None = None

    def changed(self) -> None:
        self._dirty.set()

    async def run(self) -> None:
        failing = False
        while True:
            await self._dirty.wait()
            self._dirty.clear()
            lease = self._lease()
            value = msgspec.json.encode(self._current())
            if lease is None or (value, lease) == self._written:
                continue  # a new lease calls `changed` again
            try:
                await self._store.put(self._key, value, lease=lease)
                self._written, failing = (value, lease), False
                await asyncio.sleep(EVERY)
            except RegistryError as error:
                if not failing:
                    self._log.warning("status cannot be written", error=str(error))
                failing = True
                await asyncio.sleep(RETRY)
                self._dirty.set()
