"""Store operations as a Consul transaction, and its answer as an index or an error. Pure.

https://developer.hashicorp.com/consul/api-docs/txn. Every write goes this way, because only a transaction answers
the index that it made, and only here can a condition on a version go with a lock.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import msgspec
from consul import base  # type: ignore[import-untyped]  # the package has no types

from registry.backends.consul_http import check
from registry.errors import Conflict, Denied, NotFound, RegistryError, TooLarge, Unavailable
from registry.store import Behavior, Entry, Op

MAX_STEPS = 64  # Consul's
MAX_BODY = 512 * 1024  # bytes of a request (txn_max_req_len)
LARGE = 360 * 1024  # bytes of a value: as base64, with the rest of the request, 512 KiB
TRIES = 4  # rounds to take a key over from another lease

Verb = Literal["set", "cas", "lock", "unlock", "delete", "check-index", "check-not-exists"]


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="pascal", omit_defaults=True):
    verb: Verb
    key: str
    value: bytes | None = None
    flags: int = 0
    index: int = 0
    session: str = ""


class Error(msgspec.Struct, frozen=True):
    OpIndex: int
    What: str


class Written(msgspec.Struct, frozen=True):
    ModifyIndex: int


class Result(msgspec.Struct, frozen=True):
    KV: Written


class Body(msgspec.Struct, frozen=True):
    Results: list[Result] | None = None
    Errors: list[Error] | None = None


class Outcome(msgspec.Struct, frozen=True):
    """`index`: of the write, where the server says it (ours does, in a header; Consul in the results of puts)."""

    index: int | None
    errors: tuple[Error, ...] = ()


SESSION = {"id": "ID", "created": "CreateIndex", "name": "Name", "ttl": "TTL", "behavior": "Behavior"}


class Session(msgspec.Struct, frozen=True, rename=SESSION):
    """An element of /v1/session/list; `ttl` in Go's form, empty: without end."""

    id: str
    created: int
    name: str = ""
    ttl: str = ""
    behavior: Behavior = "release"


def is_large(op: Op) -> bool:
    return op.value is not None and len(op.value) > LARGE


def signed(flags: int) -> int:
    """Consul's flags are unsigned 64-bit numbers, an entry's are signed: 2^63 and above are negative there."""
    return flags - 2**64 if flags >= 2**63 else flags


def steps(ops: Sequence[Op], takeovers: Mapping[str, Entry]) -> list[Step]:
    """The operations in Consul's verbs. `takeovers`: keys to be freed first of the lease that they name."""
    found: list[Step] = []
    for op in ops:
        found += _steps(op, takeovers.get(op.key))
    if len(found) > MAX_STEPS:
        raise TooLarge(f"{len(found)} operations in a transaction, {MAX_STEPS} at most")
    return found


def _steps(op: Op, held: Entry | None) -> list[Step]:
    guard: list[Step] = []
    if op.expect == 0:
        guard = [Step(verb="check-not-exists", key=op.key)]
    elif op.expect is not None:
        guard = [Step(verb="check-index", key=op.key, index=op.expect)]
    flags = op.flags % 2**64
    if op.value is None:
        return [*guard, Step(verb="delete", key=op.key)]
    if op.lease is not None:
        free = []
        if held is not None and held.lease not in (None, op.lease):
            # only while it is as it was seen: another host may be taking it over as well
            free = [] if guard else [Step(verb="check-index", key=op.key, index=held.version)]
            free.append(Step(verb="unlock", key=op.key, value=op.value, flags=flags, session=held.lease or ""))
        return [*guard, *free, Step(verb="lock", key=op.key, value=op.value, flags=flags, session=op.lease)]
    if op.expect is None:
        return [Step(verb="set", key=op.key, value=op.value, flags=flags)]
    return [Step(verb="cas", key=op.key, value=op.value, flags=flags, index=op.expect)]


def encode(found: Sequence[Step]) -> bytes:
    """Raises TooLarge."""
    body = msgspec.json.encode([{"KV": step} for step in found])
    if len(body) > MAX_BODY:
        raise TooLarge(f"{found[0].key}: a transaction of {len(body)} bytes, {MAX_BODY} at most")
    return body


def read(answer: base.Response, deletes: bool) -> Outcome:
    """The outcome, of 200 as of 409. `deletes`: puts alone do not tell the index.

    Raises Denied, TooLarge, Unavailable.
    """
    check(answer, "transaction")
    try:
        body = msgspec.json.decode(answer.content, type=Body)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Unavailable(f"transaction: not an answer of a registry: {error}; it may have been applied") from error
    header = answer.headers.get("X-Consul-Index", "")
    if header.isascii() and header.isdecimal():
        return Outcome(int(header), tuple(body.Errors or ()))
    written = [result.KV.ModifyIndex for result in body.Results or ()]
    return Outcome(max(written) if written and not deletes else None, tuple(body.Errors or ()))


def held(outcome: Outcome, found: Sequence[Step]) -> list[str]:
    """The keys that only failed because another lease holds them; empty when something else is wrong too."""
    names = [found[e.OpIndex].key for e in outcome.errors if "lock is already held" in e.What]
    return names if len(names) == len(outcome.errors) else []


def settle(outcome: Outcome, found: Sequence[Step]) -> int | None:
    """The index, None where the server did not say it. Raises Conflict, NotFound or Denied for the first key."""
    if outcome.errors:
        raise _error(outcome.errors[0], found)
    return outcome.index


def _error(error: Error, found: Sequence[Step]) -> RegistryError:
    key = found[error.OpIndex].key if error.OpIndex < len(found) else "?"
    if "Permission denied" in error.What or "ACL not found" in error.What:
        return Denied(f"{key}: {error.What}")  # a transaction answers a refusal like a lost condition
    if "session" in error.What and found[error.OpIndex].verb == "lock":
        return NotFound(f"{key}: {error.What}: the lease has expired, grant a new one")
    return Conflict(f"{key}: {error.What}")


def lost(op: Op) -> Conflict:
    wanted: Any = "free of other leases" if op.lease else f"version {op.expect}" if op.expect else "absent"
    return Conflict(f"{op.key}: expected {wanted}")
