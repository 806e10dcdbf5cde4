"""`meshctl registry list|diff|migrate`, the host's side: what each registry holds, and where a service is to be."""

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from meshd.admin import apply
from meshd.admin.placed_document import rewritten
from meshd.admin.shapes import ApplyResult, DiffRow, PlacedInstance, RegistryDiff, RegistryRow, ServicePlacement
from meshd.agent import Agent
from meshd.control.registries import Joined
from meshd.control.status import HostStatus
from policies.parse import FileDocument, parse
from policies.schema.service_defaults import ServiceDefaults
from policies.select import Index
from registry import keys, values
from registry.api.answers import Problem
from registry.errors import Corrupt, RegistryError
from registry.model import Instance
from registry.store import Entry, Store

Instances = Mapping[str, Instance]  # by `<service>/<node>/<id>`


def joined(agent: Agent) -> tuple[Joined, ...]:
    """The host's registries, the home one first."""
    if agent.registries is not None:
        return agent.registries.joined
    registry = agent.host.registry
    return (Joined(registry.name, registry.kind, agent.store, agent.around.contact),)


def named(agent: Agent, name: str) -> Joined:
    """Raises Problem 404."""
    known = {one.name: one for one in joined(agent)}
    if name not in known:
        raise Problem(404, f"this host has no registry {name[:80]!r}", hint=f"it has {', '.join(known)}")
    return known[name]


# ---- beside the home registry ---------------------------------------------------------------------------------------


def warnings(agent: Agent) -> tuple[str, ...]:
    """For `status`: what is lost, and what cannot be placed."""
    lost = {name: why for name, why in agent.standing.contacts().items() if why and name != agent.host.registry.name}
    away = tuple(f"registry {name} is out of contact, what it last said stays: {why}" for name, why in lost.items())
    return (*away, *agent.standing.misplaced())


def staleness(agent: Agent, ages: Mapping[str, float]) -> dict[str, float]:
    """Of services in a registry out of contact: since that one was heard, not since any was."""
    found, known = dict(ages), agent.registries
    for name, why in known.contacts().items() if known is not None else ():
        if not why or known is None:
            continue
        silent = round(agent.around.clock() - known.seen(name).heard, 3)
        for service in {one.partition("/")[0] for one in known.last_known(name)} & found.keys():
            found[service] = max(found[service], silent)
    return found


# ---- list -----------------------------------------------------------------------------------------------------------


async def rows(agent: Agent) -> list[RegistryRow]:
    """Each registry, asked now; one that does not answer with what was last heard of it."""
    return list(await asyncio.gather(*(_row(agent, one) for one in joined(agent))))


async def _row(agent: Agent, one: Joined) -> RegistryRow:
    seen = agent.registries.seen(one.name) if agent.registries is not None else None
    heard = seen.heard if seen is not None else max(agent.fold.last_event.values(), default=-1.0)
    lost = agent.standing.contacts()[one.name]
    found: Iterable[str]
    if not lost:
        try:
            found = (await instances(one, keys.SERVICES)).keys()
        except RegistryError as error:
            lost = str(error)
    if lost:
        found = (
            agent.registries.last_known(one.name) if agent.registries is not None else map(str, agent.fold.instances)
        )
    known = tuple(found)
    return RegistryRow(
        name=one.name,
        kind=one.kind,
        home=one.name == agent.host.registry.name,
        reachable=not lost,
        reason=lost,
        last_event_age=round(agent.around.clock() - heard, 3) if heard >= 0 else -1.0,
        instances=len(known),
        services=len({name.partition("/")[0] for name in known}),
    )


async def instances(one: Joined, prefix: str) -> Instances:
    """What one registry holds, and no other. Raises Unavailable, Denied."""
    found: dict[str, Instance] = {}
    for entry in (await one.store.list(prefix)).entries:
        try:
            instance = values.read_instance(entry.key, entry.value)
        except Corrupt:
            continue  # named by the fold of every host
        found[str(instance.key)] = instance
    return found


# ---- diff -----------------------------------------------------------------------------------------------------------


async def diff(agent: Agent, a: str, b: str) -> RegistryDiff:
    """Instances that are in one of two registries, or differ. Raises Problem 404, Unavailable."""
    both = [named(agent, a), named(agent, b)]
    ours, theirs = await asyncio.gather(*(instances(one, keys.SERVICES) for one in both))
    return RegistryDiff(a=a, b=b, same=_same(ours, theirs), rows=differing(ours, theirs))


def _same(ours: Instances, theirs: Instances) -> int:
    return sum(1 for name, one in ours.items() if theirs.get(name) == one)


def differing(ours: Instances, theirs: Instances) -> tuple[DiffRow, ...]:
    """Pure. In the order of services and instances."""
    found = []
    for name in sorted(ours.keys() | theirs.keys()):
        mine, other = ours.get(name), theirs.get(name)
        service = name.partition("/")[0]
        if mine is None or other is None:
            found.append(DiffRow(service=service, instance=name, only="b" if mine is None else "a"))
        elif mine != other:
            found.append(DiffRow(service=service, instance=name, fields=fields(mine, other)))
    return tuple(found)


def fields(mine: Instance, other: Instance) -> tuple[str, ...]:
    """Names of the fields in which two versions of an instance differ, as they are stored."""
    first, second = (msgspec.to_builtins(one) for one in (mine, other))
    return tuple(name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name))


# ---- where a service is ---------------------------------------------------------------------------------------------


async def placement(agent: Agent, service: str, reports: Mapping[str, HostStatus]) -> ServicePlacement:
    """Where the instances of a service are, where its defaults want them, and which hosts could not follow a move."""
    registries = joined(agent)
    found = await asyncio.gather(*(instances(one, f"{keys.SERVICES}{service}/") for one in registries))
    holding = {one.name: held for one, held in zip(registries, found, strict=True)}
    names = sorted({name for held in holding.values() for name in held})
    document = Index(agent.documents.good).find(ServiceDefaults, service)
    nodes = {node.name for node in await agent.catalog.nodes()}
    alive = nodes & agent.fold.leases.keys()
    return ServicePlacement(
        service=service,
        home=agent.host.registry.name,
        named=document.registries if document is not None else (),
        document=document.name if document is not None else "",
        registries=tuple(holding),
        instances=tuple(_placed(name, holding) for name in names),
        hosts={node: dict(reports[node].registries) for node in sorted(alive) if node in reports},
        silent=tuple(sorted(nodes - (alive & reports.keys()))),
    )


def _placed(name: str, holding: Mapping[str, Instances]) -> PlacedInstance:
    copies = {registry: held[name] for registry, held in holding.items() if name in held}
    one = next(iter(copies.values()))
    return PlacedInstance(
        name=name,
        node=one.node,
        standing=tuple(registry for registry, copy in copies.items() if copy.state != "withdrawn"),
        withdrawn=tuple(registry for registry, copy in copies.items() if copy.state == "withdrawn"),
        foreign=tuple(registry for registry, copy in copies.items() if copy.inbound is None or copy.adopted),
    )


async def place(agent: Agent, store: Store, service: str, registries: tuple[str, ...], who: str) -> ApplyResult:
    """Write `Registries` into the service's defaults, the rest of them kept. Raises Problem, Conflict, Unavailable."""
    for name in registries:
        named(agent, name)
    entry, base = await _defaults(agent, store, service)
    text = rewritten(service, entry.value if entry is not None else b"", base, registries)
    own = entry if base == service else None  # it was not there when the pattern's was taken
    parsed = parse(ServiceDefaults.kind, service, text, version=0).document
    assert parsed is not None, "rewritten reads it too"
    planned = apply.Plan((FileDocument(ServiceDefaults.kind, service, text, 1),), (parsed,))
    applied = await apply.write(store, planned, who, agent.around.now(), before=(own,))
    return await apply.result(agent, applied, ())


async def _defaults(agent: Agent, store: Store, service: str) -> tuple[Entry | None, str]:
    """The document that holds for the service now, and its name; ("", None) without one.

    A document of its own takes the place of a pattern's: it must say all that the pattern said.
    """
    for name in (service, *Index(agent.documents.good).names(ServiceDefaults.kind, service)):
        entry = await store.get(keys.policy(ServiceDefaults.kind, name))
        if entry is not None:
            return entry, name
    return None, ""


def question(body: Any) -> tuple[str, ...]:
    """`{"registries": [names]}` of a request. Raises Problem 400."""
    names = body.get("registries") if isinstance(body, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(one, str) for one in names):
        raise Problem(400, "a list of names is wanted", "registries", '{"registries": ["home", "etcd"]}')
    return tuple(dict.fromkeys(names))
