"""Which rights a host needs of its registry, and whether it has them and no others: tables, and probes.

A probe asks for the right and nothing else: reading a key that nobody has, and writing one on a condition that no key
fulfils. The store decides about rights first, so it says Denied or Conflict, and nothing is written.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, Protocol, runtime_checkable

import msgspec

from meshd.doctor.check import Check, fail, ok, warn
from registry import keys
from registry.errors import Conflict, Denied, RegistryError
from registry.store import Store

NOBODY = "doctor-probe"  # a name that no host, service or document has
NEVER = 2**62  # a version that no key has

BESIDE = (keys.LEASES, keys.SERVICES)

Verb = Literal["read", "write"]


@runtime_checkable
class Askable(Protocol):
    """A store that can be asked about a write without one."""

    async def may_write(self, key: str) -> None:
        """Raises Denied."""
        ...


class Right(msgspec.Struct, frozen=True):
    """On one key; `area` is what people call it. `wanted` False: more than this host needs."""

    verb: Verb
    key: str
    area: str
    wanted: bool = True


class Who(msgspec.Struct, frozen=True):
    """`native`: instances are not below services/ (Consul). `beside`: a registry for instances and leases alone."""

    node: str
    services: tuple[str, ...]
    authority: bool
    native: bool
    beside: bool = False


def rights(who: Who) -> tuple[Right, ...]:
    """All that is probed: what is needed, then what would be too much."""
    found = tuple([*_needed(who), *_excess(who)])
    return tuple(right for right in found if right.key.startswith(BESIDE)) if who.beside else found


def _needed(who: Who) -> Iterable[Right]:
    read = [keys.CONFIG, keys.POLICY, keys.LEASES, keys.NODES, keys.STATUS, keys.HISTORY, keys.REVOCATIONS,
            keys.CA_ROOTS, keys.CA_REPLICAS]  # fmt: skip
    if not who.native:
        read.append(keys.SERVICES)
    for prefix in read:
        yield Right("read", f"{prefix}{_probe(prefix)}", _short(prefix))
    yield Right("read", keys.STORE_ID, "store-id")
    for key in (keys.lease(who.node), keys.node(who.node), keys.status(who.node)):
        yield Right("write", key, _short(key))
    for service in () if who.native else who.services:
        yield Right("write", keys.instance(service, who.node, NOBODY), f"services/{service}/{who.node}/")
    if who.authority:
        for prefix in (keys.CA_ISSUED, keys.CA_TOKENS_USED, keys.CA_ROOTS, keys.HISTORY):
            yield Right("write", f"{prefix}{_probe(prefix)}", _short(prefix))
        yield Right("write", keys.STORE_ID, "store-id")


def _excess(who: Who) -> Iterable[Right]:
    areas = [keys.policy("service-intentions", NOBODY), keys.CONFIG + NOBODY, keys.REVOCATIONS + NOBODY,
             keys.lease(NOBODY), keys.node(NOBODY), keys.status(NOBODY)]  # fmt: skip
    if not who.native:
        areas.append(keys.instance(NOBODY, NOBODY, NOBODY))
    if not who.authority:
        areas += [keys.CA_ISSUED + f"{NOBODY}/1", keys.HISTORY + _probe(keys.HISTORY), keys.STORE_ID]
    for key in areas:
        yield Right("write", key, _short(key.replace(NOBODY, "…")), wanted=False)


def _probe(prefix: str) -> str:
    """A name below the prefix that the key layout allows."""
    return {keys.SERVICES: f"{NOBODY}/{NOBODY}/{NOBODY}", keys.HISTORY: f"fault/{NOBODY}/1",
            keys.POLICY: f"fault/{NOBODY}"}.get(prefix, NOBODY)  # fmt: skip


def _short(key: str) -> str:
    return key.removeprefix(keys.PREFIX)


async def has(store: Store, right: Right) -> bool:
    """Raises Unavailable and what else is no answer about rights."""
    try:
        if right.verb == "read":
            await store.get(right.key)
        elif isinstance(store, Askable):
            await store.may_write(right.key)
        else:
            await store.put(right.key, b"", expect=NEVER)
    except Denied:
        return False
    except Conflict:
        pass
    return True


def judge(right: Right, held: bool, where: str) -> Check | None:
    """`where`: what grants rights here. None: a right that is not needed, and is not there."""
    name = f"right {right.verb} {right.area}"
    if right.wanted:
        missing = f"missing: {right.verb} {keys.PREFIX}{right.area}"
        return ok(name, "granted") if held else fail(name, missing, f"grant it: {where}")
    if not held:
        return None
    return warn(name, "granted, but this host does not need it", f"take it away: {where}")


WHERE = {
    "consul": "deploy/consul/host.hcl, service.hcl, authority.hcl",
    "etcd": "deploy/etcd/roles.sh",
    "mesh": "the host's node certificate decides: join with a token of the authority",
    "sqlite": "",
}


async def examine(store: Store, who: Who, where: str) -> tuple[Check, ...]:
    """A line for each right that is needed, and for each that is too much."""
    found: list[Check] = []
    broad = 0
    for right in rights(who):
        try:
            line = judge(right, await has(store, right), where)
        except RegistryError as error:
            line = fail(f"right {right.verb} {right.area}", f"cannot be asked: {error}", "see the line `registry`")
        broad += line is not None and not right.wanted
        if line is not None:
            found.append(line)
    if not broad:
        found.append(ok("rights beyond", "none: what this host does not need is denied"))
    return tuple(found)


# ---- Consul's catalogue -----------------------------------------------------------------------------------------


class Wish(msgspec.Struct, frozen=True, rename="pascal", omit_defaults=True):
    """An element of POST /v1/internal/acl/authorize, which answers what the token may, and does nothing."""

    resource: str
    access: Verb
    segment: str = ""


class Said(Wish, frozen=True, rename="pascal", kw_only=True):
    allow: bool = False


def wishes(who: Who, *, agent: bool) -> tuple[tuple[Wish, bool], ...]:
    """What is asked of Consul's own rules, and whether the host needs it. `agent`: with an agent of its own."""
    needed = [Wish("session", "write", who.node), Wish("node", "read", NOBODY), Wish("node", "write", who.node),
              Wish("service", "read", NOBODY), *(Wish("service", "write", name) for name in who.services)]  # fmt: skip
    if agent:
        needed.append(Wish("agent", "read", who.node))
    excess = [Wish("service", "write", NOBODY), Wish("node", "write", NOBODY), Wish("acl", "write"),
              Wish("operator", "write")]  # fmt: skip
    return (*((wish, True) for wish in needed), *((wish, False) for wish in excess))


def judge_catalogue(asked: Sequence[tuple[Wish, bool]], said: Sequence[Said], where: str) -> tuple[Check, ...]:
    found = []
    for (wish, wanted), answer in zip(asked, said, strict=True):
        name = f"right {wish.access} {wish.resource} {wish.segment}".rstrip().replace(NOBODY, "…")
        if wanted:
            missing = f"missing: {wish.resource} {wish.segment!r} {wish.access}"
            found.append(ok(name, "granted") if answer.allow else fail(name, missing, f"grant it: {where}"))
        elif answer.allow:
            found.append(warn(name, "granted, but this host does not need it", f"take it away: {where}"))
    return tuple(found)
