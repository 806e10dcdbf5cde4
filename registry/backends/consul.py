"""A store over Consul's HTTP API: the embedded registry of another host, or a Consul server.

Consul's rules for blocking queries (https://developer.hashicorp.com/consul/api-docs/features/blocking) make the
watch: the index goes back to 0 on any error and when it goes backwards, and what came is always compared with what
was known, because an answer only says that something may have changed.
"""

import asyncio
import copy
import random
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import msgspec
from consul import base  # type: ignore[import-untyped]  # the package has no types

from registry import durations, keys
from registry.backends import consul_txn
from registry.backends.consul_http import Api, Links, Tls, Transport, check
from registry.backends.consul_view import View
from registry.errors import Denied, NotFound, TooLarge, Unavailable
from registry.store import Alive, Behavior, Entry, Lease, Listing, Lost, Op, Watch, WatchEvent

MAX_VALUE = 512 * 1024  # bytes, Consul's kv_max_value_size
MAX_WATCHES = 100  # blocking queries of one host: each is a connection, and work for the servers on every write
MAX_WAIT = 60.0  # seconds: proxies and NATs between drop what is silent for longer
FIRST_PAUSE = 0.1  # seconds, doubled with each failure, then any part of it (full jitter)
LONGEST_PAUSE = 10.0
IDLE_PAUSE = 0.005  # seconds per answer in a row that changed nothing: a server need not block


Found = tuple[int, list[Entry]]  # of a read: the index and what is there


def no_token() -> str | None:
    return None


@dataclass(frozen=True)
class Backoff:
    """How to wait before the next try. `jitter` gives [0, 1): full, so that a fleet does not come back at once."""

    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def after(self, failures: int) -> float:
        """Seconds after this many failures before the last one."""
        return self.jitter() * min(LONGEST_PAUSE, FIRST_PAUSE * float(1 << failures))


BACKOFF = Backoff()


class ConsulStore:
    """A `registry.store.SessionStore`. `addresses`: http://, https:// or unix://, the first that answers is used.

    `token` is asked before each request. `ssl` carries the private CA and the client's certificate, from
    files that may be replaced (`TlsFiles`) or as it is; `server_hostname`
    is the name that the server's certificate must have, whatever its address.
    """

    max_value = MAX_VALUE
    max_watches: int | None = MAX_WATCHES

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: Callable[[], str | None] = no_token,
        ssl: Tls = None,
        server_hostname: str | None = None,
        wait: float = MAX_WAIT,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._links = Links(addresses, ssl, server_hostname)
        self._api = Api(Transport(self._links, token))
        self._wait = min(wait, MAX_WAIT)
        self._backoff = backoff

    def acting_as(self, token: str) -> "ConsulStore":
        """The same connections under another caller's token: its rights, not ours. Close only the original."""
        other = copy.copy(self)
        other._api = Api(Transport(self._links, lambda: token))
        return other

    async def run(self) -> None:
        """Notice within 10 s that a server is frozen under the watches, for ever; without it a minute later."""
        await self._links.run()

    # ---- reads --------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        _check_key(key)
        _, entries = await self._read(key, ())
        return entries[0] if entries else None

    async def list(self, prefix: str) -> Listing:
        index, entries = await self._read(prefix, (("recurse", "1"),))
        return Listing(tuple(entries), index)

    async def glance(self, selector: str) -> Listing:
        """What any server knows, not only the leader: cheap, and perhaps a moment old."""
        whole = (("recurse", "1"),) if selector.endswith("/") else ()
        index, entries = await self._read(selector, (*whole, ("stale", "1")))
        return Listing(tuple(entries), index)

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        return await self._index(prefix, exact, ())

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        params = (("index", str(after)), ("wait", durations.render(self._wait)))
        while True:
            found = await self._index(prefix, exact, params)
            if found != after:
                return found

    async def leases(self) -> tuple[Lease, ...]:
        sessions: list[consul_txn.Session] = await self._api.http.get(
            _decoder(list[consul_txn.Session], "sessions"), "/v1/session/list"
        )
        return tuple(
            Lease(id=s.id, name=s.name, ttl=durations.parse(s.ttl) or 0.0, behavior=s.behavior, created=s.created)
            for s in sorted(sessions, key=lambda s: (s.created, s.id))
        )

    # ---- writes -------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        return await self.transact([Op(key=key, value=value, expect=expect, lease=lease, flags=flags)])

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        return await self.transact([Op(key=key, value=None, expect=expect)])

    async def transact(self, ops: Sequence[Op]) -> int:
        """64 operations at most, and as many bytes as fit into one request of a Consul server (512 KiB as base64)."""
        if not ops:
            return await self.index("")
        for op in ops:
            _check_key(op.key)
            if op.value is not None and len(op.value) > MAX_VALUE:
                raise TooLarge(f"{op.key}: {len(op.value)} bytes, {MAX_VALUE} at most")
        if len(ops) == 1 and consul_txn.is_large(ops[0]):
            return await self._put_large(ops[0])
        read = partial(consul_txn.read, deletes=any(op.value is None for op in ops))
        takeovers: dict[str, Entry] = {}
        for _ in range(consul_txn.TRIES):
            steps = consul_txn.steps(ops, takeovers)
            outcome: consul_txn.Outcome = await self._api.http.put(read, "/v1/txn", data=consul_txn.encode(steps))
            held = consul_txn.held(outcome, steps)
            if not held:
                break
            # another lease holds the key: a put with a lease moves it, which takes an unlock by the old one first
            takeovers |= {key: entry for key in held if (entry := await self.get(key)) is not None}
        index = consul_txn.settle(outcome, steps)
        # a Consul server says no index of a deletion: that of a key which is gone is at or behind it
        return index or await self.index(next(op.key for op in ops if op.value is None), exact=True)

    async def _put_large(self, op: Op) -> int:
        """A value that does not fit into a transaction as base64: two requests; the index may be of a later write."""
        params = [("flags", str(op.flags % 2**64))]
        if op.lease is not None and op.expect is not None:
            raise TooLarge(f"{op.key}: {len(op.value or b'')} bytes are too many for a lease with an expected version")
        if op.expect is not None:
            params.append(("cas", str(op.expect)))
        if op.lease is not None:
            params.append(("acquire", op.lease))
        done: bool = await self._api.http.put(
            _decoder(bool, f"put {op.key}"), f"/v1/kv/{op.key}", params=params, data=op.value
        )
        if not done:
            raise consul_txn.lost(op)
        return await self.index(op.key, exact=True)

    async def acquire(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        return await self._lock("acquire", key, value, lease, flags)

    async def release(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        return await self._lock("release", key, value, lease, flags)

    async def _lock(self, verb: str, key: str, value: bytes, lease: str, flags: int) -> bool:
        _check_key(key)
        if len(value) > MAX_VALUE:
            raise TooLarge(f"{key}: {len(value)} bytes, {MAX_VALUE} at most")
        params = [(verb, lease), ("flags", str(flags % 2**64))]
        done: bool = await self._api.http.put(
            _decoder(bool, f"{verb} {key}"), f"/v1/kv/{key}", params=params, data=value
        )
        return done

    # ---- leases -------------------------------------------------------------------------------------------------

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str:
        """A Consul server takes 10 s to a day (TooLarge otherwise), and ends a lease up to twice its time late."""
        wanted: dict[str, Any] = {
            "Name": name,
            "Behavior": behavior,
            "LockDelay": "0s",  # Consul's 15 s would keep a restarted host from its own keys
            "Checks": [],  # no node checks: the lease is the host's own word, not that of an agent
            "NodeChecks": [],
        }
        if ttl:
            wanted["TTL"] = durations.render(ttl)
        made: dict[str, str] = await self._api.http.put(
            _decoder(dict[str, str], "session/create"), "/v1/session/create", data=msgspec.json.encode(wanted)
        )
        return made["ID"]

    async def renew(self, lease: str) -> None:
        await self._session(self._api.session.renew(lease), f"renew lease {lease}")

    async def revoke(self, lease: str) -> None:
        await self._session(self._api.session.destroy(lease), f"revoke lease {lease}")

    async def _session(self, call: Awaitable[Any], what: str) -> None:
        try:
            await call
        except base.NotFound as error:
            raise NotFound(f"{what}: it has expired, grant a new one") from error
        except (base.ACLPermissionDenied, base.ACLDisabled, base.BadRequest) as error:
            raise Denied(f"{what}: {error}") from error
        except base.ConsulException as error:
            raise Unavailable(f"{what}: {error}") from error

    # ---- watches ------------------------------------------------------------------------------------------------

    def watch(self, selector: str, *, after: int | None = None) -> Watch:
        return self._watch(selector, after)

    async def _watch(self, selector: str, after: int | None) -> AsyncGenerator[WatchEvent, None]:
        view = View(after)
        failures = idle = 0
        while not self._links.closed:
            asked, waited = time.monotonic(), view.ask
            try:
                index, entries = await self._read(selector, self._poll(selector, view.ask))
            except (Unavailable, NotFound, TooLarge) as error:
                view.forget_index()
                if self._links.closed:
                    return
                if not failures:
                    yield Lost(str(error))
                await self._backoff.pause(self._backoff.after(failures))
                failures = min(failures + 1, 16)
                continue
            event = view.take(index, entries, lost=failures > 0)
            failures = 0
            if event is not None:
                early = isinstance(event, Alive) and time.monotonic() - asked < self._wait / 2
                idle = idle + 1 if early else 0
                if early and waited:
                    view.forget_index()  # nothing has changed, yet it answers: so does a restored store, with old data
                yield event
            if idle > 1:  # the server does not block: do not spin
                await self._backoff.pause(min(0.1, IDLE_PAUSE * idle))

    def _poll(self, selector: str, index: int) -> tuple[tuple[str, str], ...]:
        read = () if keys.is_key(selector) else (("recurse", "1"),)
        return (*read, ("index", str(index)), ("wait", durations.render(self._wait))) if index else read

    async def close(self) -> None:
        """End all requests; running watches end. Idempotent."""
        await self._links.close()

    # ---- parts --------------------------------------------------------------------------------------------------

    async def _read(self, key: str, params: tuple[tuple[str, str], ...]) -> Found:
        """Index and entries; nothing there is an empty list. Raises Denied, Unavailable."""
        found: Found = await self._api.http.get(_entries(key), f"/v1/kv/{key}", params=params)
        return found

    async def _index(self, prefix: str, exact: bool, params: tuple[tuple[str, str], ...]) -> int:
        read = params if exact else (*params, ("keys", "1"), ("separator", "/"))
        found: int = await self._api.http.get(_index(prefix), f"/v1/kv/{prefix}", params=read)
        return found


class _Pair(msgspec.Struct, frozen=True):
    Key: str
    Value: bytes | None
    Flags: int
    LockIndex: int
    CreateIndex: int
    ModifyIndex: int
    Session: str = ""


_PAIRS = msgspec.json.Decoder(list[_Pair])


def _entries(what: str) -> Callable[[base.Response], Found]:
    def read(answer: base.Response) -> Found:
        index = _header(answer)
        if answer.code == 404:
            return index, []
        check(answer, f"read {what}")
        return index, [_entry(pair) for pair in _decoded(_PAIRS, answer, what)]

    return read


def _index(what: str) -> Callable[[base.Response], int]:
    def read(answer: base.Response) -> int:
        if answer.code != 404:
            check(answer, f"index of {what}")
        return _header(answer)

    return read


def _decoder(kind: Any, what: str) -> Callable[[base.Response], Any]:
    decoder = msgspec.json.Decoder(kind)

    def read(answer: base.Response) -> Any:
        check(answer, what)
        return _decoded(decoder, answer, what)

    return read


def _decoded(decoder: msgspec.json.Decoder[Any], answer: base.Response, what: str) -> Any:
    try:
        return decoder.decode(answer.content)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        # whatever answered is no registry; another attempt may reach one
        raise Unavailable(f"{what}: not an answer of a registry: {error}") from error


def _header(answer: base.Response) -> int:
    text = answer.headers.get("X-Consul-Index", "")
    return max(1, int(text)) if text.isascii() and text.isdecimal() else 1


def _entry(pair: _Pair) -> Entry:
    return Entry(
        key=pair.Key,
        value=pair.Value or b"",
        version=pair.ModifyIndex,
        created=pair.CreateIndex,
        flags=consul_txn.signed(pair.Flags),
        lease=pair.Session or None,
        lock_index=pair.LockIndex,
    )


def _check_key(key: str) -> None:
    if not keys.valid_key(key):
        raise Denied(f"{key[:600]!r} is not a key: [A-Za-z0-9._/-], 1-512, no empty, '.' or '..' segment")
