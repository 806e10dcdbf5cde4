"""`/v1/txn`, the KV part: https://developer.hashicorp.com/consul/api-docs/txn

A store's transaction is puts and deletes with expected versions. So the operations are played on what the store holds
now (`Play`, pure), and the outcome is written on condition that everything read is still so; a writer that comes
between makes us play again.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from aiohttp import web

from registry import keys
from registry.api import answers
from registry.api.access import Action
from registry.api.answers import Problem
from registry.api.context import Context, Routes
from registry.api.kv import Pair, pair, stored_flags
from registry.errors import Conflict, NotFound
from registry.store import Entry, Op, SessionStore

MAX_OPS = 64  # Consul's
TRIES = 16  # rounds against concurrent writers of the same keys
TREES = ("get-tree", "delete-tree")
WRITES = ("set", "cas", "lock", "unlock", "delete", "delete-cas", "delete-tree")


class Step(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """One KV operation as sent; `value` travels as base64."""

    verb: str
    key: str
    value: bytes | None = None
    flags: int = 0
    index: int = 0
    session: str = ""


class Item(msgspec.Struct, frozen=True):
    """Consul reads `KV`, `Node`, `Service`, `Check`, `Session`; here only `KV` writes."""

    KV: Step | None = None
    Node: msgspec.Raw | None = None
    Service: msgspec.Raw | None = None
    Check: msgspec.Raw | None = None


def routes(context: Context) -> Routes:
    return {"PUT /v1/txn": Txn(context).put}


class Txn:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def put(self, request: web.Request) -> web.StreamResponse:
        steps = parse(await request.read())
        for step in steps:
            self._context.check(request, Action.KV_WRITE if step.verb in WRITES else Action.KV_READ, step.key)

        def permit(key: str) -> None:
            self._context.check(request, Action.KV_WRITE, key)  # keys of a tree are known only now

        play, index = await run(self._context.store(request), steps, permit)
        # as in listings: keys of a tree that the caller may not read are left out
        results = [found for found in play.results if self._context.allows(request, Action.KV_READ, found.Key)]
        content: dict[str, Any] = {"Results": [{"KV": found} for found in results], "Errors": None}
        if play.errors:
            content = {"Results": None, "Errors": [{"OpIndex": at, "What": what} for at, what in play.errors]}
        if all(step.verb not in WRITES for step in steps):
            content |= {"Index": 0, "LastContact": 0, "KnownLeader": True, "ConsistencyLevel": ""}
        return answers.json(request, content, index, status=409 if play.errors else 200)


def parse(data: bytes) -> list[Step]:
    """The operations of a body. Raises Problem 400 and 413."""
    try:
        items = msgspec.json.decode(data, type=list[Item]) if data else []
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Problem(400, f"Failed to parse body: {error}", hint='[{"KV": {"Verb": "set", "Key": "a"}}]') from error
    if len(items) > MAX_OPS:
        raise Problem(413, f"Transaction contains too many operations ({len(items)} > {MAX_OPS})")
    steps = []
    for at, item in enumerate(items):
        if item.Node or item.Service or item.Check:
            raise Problem(400, "only KV operations are supported", f"[{at}]", "register through /v1/agent/service")
        if item.KV is not None:
            steps.append(item.KV)
            _check(item.KV, at)
    return steps


def _check(step: Step, at: int) -> None:
    tree = step.verb in TREES and not step.key
    if not tree and not keys.valid_key(step.key):
        raise Problem(400, f"Invalid key {step.key[:120]!r}", f"[{at}].KV.Key", "[A-Za-z0-9._/-]")
    if not (0 <= step.flags < 2**64 and 0 <= step.index < 2**63):
        raise Problem(400, "Flags or Index out of range", f"[{at}].KV")


async def run(store: SessionStore, steps: Sequence[Step], permit: Callable[[str], None]) -> tuple["Play", int | None]:
    """Play the steps until their outcome was written as played; the index of the write, None if nothing was.

    `permit` is called with each key before it is written, and raises to refuse all of it.
    """
    for _ in range(TRIES):
        sessions = {lease.id for lease in await store.leases()} if any(s.session for s in steps) else set()
        play = Play(await _held(store, steps), frozenset(sessions))
        for at, step in enumerate(steps):
            play.step(at, step)
        ops = play.ops()
        if play.errors or not ops:
            return play, None
        for key in play.written:
            permit(key)
        try:
            index = await store.transact(ops)
        except (Conflict, NotFound):
            await asyncio.sleep(0)
            continue
        return play.at(index), index
    raise Conflict(f"the keys of the transaction changed {TRIES} times while it was tried")


async def _held(store: SessionStore, steps: Sequence[Step]) -> dict[str, Entry]:
    held: dict[str, Entry] = {}
    for step in steps:
        if step.verb in TREES:
            held.update({entry.key: entry for entry in (await store.list(step.key)).entries})
        elif (entry := await store.get(step.key)) is not None:
            held.setdefault(step.key, entry)
    return held


class Play:
    """The steps on a copy of the store: later ones see what earlier ones did. Decides only.

    `written` are the keys that change; `errors` are (step, what) as Consul words them; one is enough to write nothing.
    """

    def __init__(self, held: Mapping[str, Entry], sessions: frozenset[str]) -> None:
        self.results: list[Pair] = []
        self.errors: list[tuple[int, str]] = []
        self._held = held
        self._now: dict[str, Entry] = dict(held)
        self._sessions = sessions
        self._read: set[str] = set()
        self.written: set[str] = set()

    def step(self, at: int, step: Step) -> None:
        before = self._now.get(step.key)
        self._read.add(step.key)
        if step.verb in TREES:
            self._tree(step)
            return
        wrong = fault(step, before, self._sessions)
        if wrong:
            self.errors.append((at, wrong))
        elif step.verb in WRITES:
            self._write(step, before)
        elif before is not None:  # get, and the checks of what is there
            found = pair(before)
            self.results.append(found if step.verb == "get" else msgspec.structs.replace(found, Value=None))

    def ops(self) -> list[Op]:
        """One operation per key: its outcome if it was written, else its present state, as a check only."""
        ops = [self._op(key) for key in sorted(self._read | self.written)]
        return [op for op in ops if op is not None] if self.written else []

    def at(self, index: int) -> "Play":
        """The same with the index of the write in the results of writes (0 until then)."""
        for i, found in enumerate(self.results):
            if found.ModifyIndex == 0:
                created = found.CreateIndex or index
                self.results[i] = msgspec.structs.replace(found, ModifyIndex=index, CreateIndex=created)
        return self

    def _op(self, key: str) -> Op | None:
        before, after = self._held.get(key), self._now.get(key)
        expect = before.version if before is not None else 0
        if after is None:
            return Op(key=key, value=None, expect=expect) if keys.valid_key(key) else None
        return Op(key=key, value=after.value, expect=expect, lease=after.lease, flags=after.flags)

    def _tree(self, step: Step) -> None:
        for key in sorted(key for key in self._now if key.startswith(step.key)):
            if step.verb == "get-tree":
                self.results.append(pair(self._now[key]))
            else:
                del self._now[key]
                self.written.add(key)
        self._read.discard(step.key)

    def _write(self, step: Step, before: Entry | None) -> None:
        self.written.add(step.key)
        if step.verb in ("delete", "delete-cas"):
            self._now.pop(step.key, None)
            return
        old = before or Entry(key=step.key, value=b"", version=0, created=0)
        lease, lock_index = old.lease, old.lock_index
        if step.verb == "lock":
            lock_index += lease != step.session
            lease = step.session
        elif step.verb == "unlock":
            lease = None
        entry = Entry(
            key=step.key,
            value=step.value or b"",
            version=0,
            created=old.created,
            flags=stored_flags(step.flags),
            lease=lease,
            lock_index=lock_index,
        )
        self._now[step.key] = entry
        self.results.append(msgspec.structs.replace(pair(entry), Value=None))  # as Consul: it has it already


def fault(step: Step, before: Entry | None, sessions: frozenset[str]) -> str:
    """Why this step fails on a key in this state, in Consul's words; empty: it does not."""
    quoted, version = f'"{step.key}"', before.version if before is not None else 0
    holder = (before.lease if before is not None else None) or ""
    match step.verb:
        case "set" | "delete":
            return ""
        case "get":
            return "" if before is not None else f"key {quoted} doesn't exist"
        case "cas":
            return "" if step.index == version else f"failed to set key {quoted}, index is stale"
        case "delete-cas":
            return "" if before is None or step.index == version else f"failed to delete key {quoted}, index is stale"
        case "check-index":
            if before is None:
                return f"failed to check index for key {quoted}, key doesn't exist"
            stale = f"failed index check for key {quoted}, current modify index {version} != {step.index}"
            return "" if step.index == version else stale
        case "check-not-exists":
            return f"key {quoted} exists" if before is not None else ""
        case "check-session":
            wrong = f'failed session check for key {quoted}, current session "{holder}" != "{step.session}"'
            return "" if before is not None and holder == step.session else wrong
        case "lock":
            if step.session not in sessions:
                return f'invalid session "{step.session}"'
            return f"failed to lock key {quoted}, lock is already held" if holder not in ("", step.session) else ""
        case "unlock":
            wrong = f"failed to unlock key {quoted}, lock isn't held, or is held by another session"
            return "" if holder and holder == step.session else wrong
    return f'unknown KV verb "{step.verb}"'
