"""`/v1/kv/`: https://developer.hashicorp.com/consul/api-docs/kv"""

from typing import Any

import msgspec
from aiohttp import web
from msgspec import UNSET, UnsetType

from registry.api import answers, blocking
from registry.api.access import Action
from registry.api.answers import Problem
from registry.api.blocking import Scope
from registry.api.context import Context, Routes, key_of
from registry.errors import Conflict, NotFound, TooLarge
from registry.store import Entry, Op, SessionStore

SIGN = 2**63  # flags are unsigned for clients, and signed 64-bit numbers in stores
STEADY = 4  # rounds to find a moment without a write; after that the index may be older than the listing
CHUNK = 64  # operations that every store takes in one transaction


class Pair(msgspec.Struct, frozen=True):
    """One key as Consul shows it, in Consul's order; an empty value is null."""

    LockIndex: int
    Key: str
    Flags: int
    Value: bytes | None
    Session: str | UnsetType
    CreateIndex: int
    ModifyIndex: int


def pair(entry: Entry) -> Pair:
    return Pair(
        entry.lock_index,
        entry.key,
        entry.flags % (2 * SIGN),
        entry.value or None,
        entry.lease if entry.lease else UNSET,
        entry.created,
        entry.version,
    )


def flags(text: str) -> int:
    """Flags as a store keeps them. Raises Problem 400."""
    value = blocking.number(text)
    if value is None:
        raise Problem(400, f"Invalid flags {text[:40]!r}", "flags", "an unsigned 64-bit number")
    return stored_flags(value)


def stored_flags(value: int) -> int:
    return value - 2 * SIGN if value >= SIGN else value


def routes(context: Context) -> Routes:
    kv = Kv(context)
    return {"GET /v1/kv/{key:.*}": kv.get, "PUT /v1/kv/{key:.*}": kv.put, "DELETE /v1/kv/{key:.*}": kv.delete}


class Kv:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def get(self, request: web.Request) -> web.StreamResponse:
        prefix = key_of(request)
        self._context.check(request, Action.KV_READ, prefix)
        if "keys" in request.query or "recurse" in request.query:
            return await self._get_many(request, prefix)
        if not prefix:
            raise Problem(400, "Missing key name", "key")
        index = await self._context.wait(request, Scope(prefix, exact=True))
        entry = await self._context.store(request).get(prefix)
        if entry is None:
            return answers.empty(index, status=404)
        index = max(index, entry.version)
        if "raw" in request.query:
            # what is stored is not ours to vouch for: browsers shall neither run nor guess it
            headers = {"Content-Security-Policy": "sandbox", "X-Content-Type-Options": "nosniff"}
            headers |= answers.consul_headers(index)
            return web.Response(body=entry.value, content_type="text/plain", headers=headers)
        return answers.json(request, [pair(entry)], index)

    async def _get_many(self, request: web.Request, prefix: str) -> web.Response:
        store = self._context.store(request)
        index = await self._context.wait(request, Scope(prefix))
        for _ in range(STEADY):  # index and listing of one moment, so that a client can tell states apart
            listing = await store.list(prefix)
            after = await store.index(prefix)
            if after == index:
                break
            index = after
        # keys that the caller may not read are left out, as Consul's ACLs do
        entries = [e for e in listing.entries if self._context.allows(request, Action.KV_READ, e.key)]
        if not entries:
            return answers.empty(index, status=404)
        content: Any = [pair(entry) for entry in entries]
        if "keys" in request.query:
            content = _folders([e.key for e in entries], prefix, request.query.get("separator", ""))
        return answers.json(request, content, index)

    async def put(self, request: web.Request) -> web.StreamResponse:
        key, query = key_of(request), request.query
        self._context.check(request, Action.KV_WRITE, key)
        if not key:
            raise Problem(400, "Missing key name", "key")
        store = self._context.store(request)
        guards = [f"{name}={query[name]}" for name in ("cas", "acquire", "release") if name in query]
        if len(guards) > 1:
            raise Problem(400, f"Conflicting flags: {'&'.join(guards)}", "cas")
        if (request.content_length or 0) > store.max_value:
            raise _too_large(request.content_length or 0, store.max_value)
        value = await request.read()
        if len(value) > store.max_value:
            raise _too_large(len(value), store.max_value)
        marks = flags(query.get("flags", "0"))
        if "acquire" in query or "release" in query:
            return answers.json(request, await _lock(store, Op(key=key, value=value, flags=marks), query))
        expect = _cas(query["cas"]) if "cas" in query else None
        try:
            version = await store.put(key, value, expect=expect, flags=marks)
        except Conflict:
            return answers.json(request, False)
        return answers.json(request, True, version)

    async def delete(self, request: web.Request) -> web.StreamResponse:
        key = key_of(request)
        store = self._context.store(request)
        if "recurse" in request.query:
            return answers.json(request, True, await self._delete_tree(request, store, key))
        self._context.check(request, Action.KV_WRITE, key)
        if not key:
            raise Problem(400, "Missing key name", "key")
        if "cas" not in request.query:
            return answers.json(request, True, await store.delete(key))
        expect = _cas(request.query["cas"])
        if await store.get(key) is None:
            return answers.json(request, True)  # as Consul: what shall be gone is gone
        try:
            # 0 is no version of an existing key; Consul answers false, not an error
            done = await store.delete(key, expect=expect) if expect else None
        except Conflict:
            done = None
        return answers.json(request, done is not None, done)

    async def _delete_tree(self, request: web.Request, store: SessionStore, prefix: str) -> int:
        listing = await store.list(prefix)
        for entry in listing.entries:
            self._context.check(request, Action.KV_WRITE, entry.key)
        ops = [Op(key=entry.key, value=None) for entry in listing.entries]
        if not ops:
            self._context.check(request, Action.KV_WRITE, prefix)
            return listing.index
        try:
            return await store.transact(ops)
        except TooLarge:  # a store with a limit: in pieces, oldest keys first, so not one change for watchers
            for start in range(0, len(ops), CHUNK):
                index = await store.transact(ops[start : start + CHUNK])
            return index


def _folders(names: list[str], prefix: str, separator: str) -> list[str]:
    """The keys up to the first separator behind the prefix, each once."""
    if not separator:
        return names
    found: dict[str, None] = {}
    for name in names:
        end = name.find(separator, len(prefix))
        found[name if end < 0 else name[: end + len(separator)]] = None
    return list(found)


async def _lock(store: SessionStore, op: Op, query: Any) -> bool:
    lease = query.get("acquire") or query.get("release") or ""
    value = op.value or b""
    if "release" in query:
        return await store.release(op.key, value, lease, flags=op.flags)
    unknown = Problem(500, f'invalid session "{lease[:64]}"', "acquire", "create a session first")
    try:
        done = await store.acquire(op.key, value, lease, flags=op.flags)
    except NotFound as error:
        raise unknown from error
    if not done and all(known.id != lease for known in await store.leases()):
        raise unknown  # somebody else holds the key, but that is not what is wrong
    return done


def _cas(text: str) -> int:
    value = blocking.number(text)
    if value is None:
        raise Problem(400, f"Invalid cas {text[:40]!r}", "cas", "the ModifyIndex of the key, 0 to create only")
    return value


def _too_large(size: int, limit: int) -> Problem:
    return Problem(413, f"Request body({size} bytes) too large, max size: {limit} bytes", "value")
