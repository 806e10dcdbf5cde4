"""The contract of a store: versioned keys, compare-and-set, leases and watches.

One contract suite (`tests/contract`) proves every backend. What a backend promises:

* `version` of an entry is the store index of its last write; indexes only grow over the store's life.
* Every write is atomic and either idempotent or guarded by `expect`. A put that changes nothing is no write: nobody
  wakes, and the answer is the version that the key already has (as Consul does).
* A key keeps its lease over puts without one; a put with another lease moves the key to that lease.
* A watch is ordered (by index), unique (an index is delivered once), reliable or loudly resynchronised (`Resync`
  replaces everything known under the selector), resumable (`after`), and honest about silence (`Lost`, `Alive`).
* What is watched is a *selector*: a prefix that ends in `/` (or is empty), or else one exact key, which is never the
  prefix of others (`policy/service-router/web` says nothing of `.../web2` or `.../web/a`).
"""

from collections.abc import AsyncIterator, Awaitable, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One key. `version` is Consul's ModifyIndex; `lease` the id of the lease that the key lives by, or None."""

    key: str
    value: bytes
    version: int
    created: int
    flags: int = 0
    lease: str | None = None
    lock_index: int = 0


class Listing(msgspec.Struct, frozen=True):
    """All entries below a prefix, sorted by key, and the index at which that was true."""

    entries: tuple[Entry, ...]
    index: int


class Op(msgspec.Struct, frozen=True, kw_only=True):
    """One step of `transact`. `value` None deletes. `expect` None: any version; 0: must not exist; N: exactly N."""

    key: str
    value: bytes | None
    expect: int | None = None
    lease: str | None = None
    flags: int = 0


class Batch(msgspec.Struct, frozen=True):
    """Changes since the last event, in order. A key deleted and written again inside a batch shows its last state.

    `lacking`, here and in the other events: of a store made of several (`registry.merge`), which of them is out of
    contact and why. What it last said still counts; a Resync that lacks one need not hold all that it knows.
    """

    index: int
    puts: tuple[Entry, ...] = ()
    deletes: tuple[str, ...] = ()
    lacking: str = ""


class Resync(msgspec.Struct, frozen=True):
    """The whole truth about the selector: whatever was known of its keys before and is not listed here is gone."""

    index: int
    entries: tuple[Entry, ...]
    lacking: str = ""


class Alive(msgspec.Struct, frozen=True):
    """Nothing changed, and the store said so: the clock of staleness."""

    index: int
    lacking: str = ""


class Lost(msgspec.Struct, frozen=True):
    """Contact is lost (first failure only; the watch keeps trying and ends this state with any other event)."""

    reason: str


WatchEvent = Batch | Resync | Alive | Lost


class Watch(Protocol):
    """A running watch: an async generator is one. Use it with `contextlib.aclosing`."""

    def __aiter__(self) -> AsyncIterator[WatchEvent]: ...

    def __anext__(self) -> Awaitable[WatchEvent]: ...

    def aclose(self) -> Awaitable[None]: ...


class Store(Protocol):
    """Shapes: keys are `[A-Za-z0-9._/-]`, prefixes end in `/` (or are empty), values are bytes up to `max_value`.

    Errors: Unavailable, Conflict, NotFound, Denied, TooLarge from `registry.errors`.
    `max_watches`: how many watches one host should stay below; None: each costs next to nothing.
    """

    max_value: int
    max_watches: int | None

    async def get(self, key: str) -> Entry | None: ...

    async def list(self, prefix: str) -> Listing: ...

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        """Write one key and return its version, the store index of the write. `expect=0` creates only.

        Raises Conflict, NotFound (the lease has expired), TooLarge, Denied (not a key).
        """
        ...

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        """Delete one key; deleting what is absent is no error without `expect`. Returns the store index."""
        ...

    async def transact(self, ops: Sequence[Op]) -> int:
        """All or nothing; raises Conflict naming the first key that was not as expected."""
        ...

    async def grant(self, ttl: float, *, name: str = "") -> str:
        """A lease of `ttl` seconds; keys put with it vanish when it expires or is revoked."""
        ...

    async def renew(self, lease: str) -> None:
        """Start the lease's time again. Raises NotFound when it has expired: grant a new one, put the keys again."""
        ...

    async def revoke(self, lease: str) -> None: ...

    def watch(self, selector: str, *, after: int | None = None) -> Watch:
        """Follow a prefix or one key, for ever. Without `after` the first event is a Resync; with it, all that came
        after.

        Never raises Unavailable (it yields Lost and keeps trying with full jitter); raises Denied.
        Closing the iterator (aclose) releases everything that it holds, also at the server.
        """
        ...

    async def close(self) -> None: ...


Behavior = Literal["delete", "release"]


class Lease(msgspec.Struct, frozen=True, kw_only=True):
    """A lease as its store knows it. `ttl` in seconds, 0: it never expires; `created` is a store index.

    `behavior` says what its end does to its keys: delete them (ours) or only let them go (Consul's default).
    """

    id: str
    name: str
    ttl: float
    behavior: Behavior
    created: int


@runtime_checkable
class Indexed(Protocol):
    """A store that knows the index of a prefix exactly: `registry.blocking` asks it instead of watching."""

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        """The highest version at or below `prefix`, deletions included; only grows. `exact`: of that one key."""
        ...

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        """The first index of the prefix that is not `after` (also a lower one: then `after` is of another store)."""
        ...


class SessionStore(Store, Indexed, Protocol):
    """What `registry.api` serves: a store whose leases can be seen, and held as locks (Consul's sessions)."""

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str: ...

    async def leases(self) -> tuple[Lease, ...]: ...

    async def acquire(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        """Write and hold the key unless another lease holds it (False). Raises NotFound for the lease."""
        ...

    async def release(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        """Write and let go of the key if this lease holds it (else False)."""
        ...


@runtime_checkable
class StaleReads(Protocol):
    """A store of several servers where a read that may be old is cheaper than one that may not."""

    async def glance(self, selector: str) -> Listing:
        """What any server knows below a prefix, or of one key."""
        ...


class Behind(msgspec.Struct, frozen=True):
    """How far a server that answers may be behind its leader (`seconds`); `led` false: it knows no leader."""

    seconds: float
    led: bool


@runtime_checkable
class Replicated(Protocol):
    """A store of several servers, any of which may answer reads."""

    def behind(self) -> Behind: ...
