"""The whole mesh for people, read when they ask: a host itself follows only what it calls and hosts.

What is followed here is shown as this host sees it (doubts, held documents, last good versions); everything else as the
registry lists it at this moment. While the registry is away there is only what is followed, and `missing` says so.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from meshd.agent import Agent
from meshd.control.documents import Name
from policies.parse import parse
from policies.schema.kinds import AnyDocument
from policies.select import closure
from policies.view import HostView
from registry import interest, keys
from registry.errors import RegistryError
from registry.fold import Fold
from registry.interest import BASE, Interest
from registry.model import Document, Endpoint, Instance, Node
from registry.store import Entry, Listing, Resync

WITHIN = 5.0  # seconds until the registry counts as away
NOTHING: Mapping[Name, AnyDocument] = MappingProxyType({})
HEADER = "X-Meshd-Missing"  # on an answer that shows only what is followed here: why


@dataclass(frozen=True)
class Whole:
    """Everything that there is, as far as it could be read. `missing`: why only what is followed here is shown."""

    agent: Agent
    listed: Fold = field(default_factory=Fold)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    missing: str = ""

    @property
    def services(self) -> frozenset[str]:
        return self.agent.fold.services | self.listed.services

    @property
    def documents(self) -> Mapping[Name, Document]:
        return {**self.listed.documents, **self.agent.fold.documents}

    @property
    def problems(self) -> Mapping[str, str]:
        return {**self.listed.problems, **self.agent.fold.problems}

    @property
    def headers(self) -> dict[str, str]:
        return headers(self.missing)

    def follows(self, document: Name) -> bool:
        """Is the document one that this host keeps in force?"""
        return self.agent.fold.known(keys.policy(*document))

    def endpoints(self, service: str) -> tuple[Endpoint, ...]:
        agent = self.agent
        fold = agent.fold if agent.fold.known(interest.endpoints(service)) else self.listed
        return fold.endpoints(service, agent.around.clock())


def headers(missing: str) -> dict[str, str]:
    """Of an answer that shows less than everything."""
    return {HEADER: " ".join(missing.split())} if missing else {}


async def read(agent: Agent, *prefixes: str, hosts: bool = False) -> Whole:
    """List these prefixes of services or policy now, and all hosts. Never raises for a registry that is away."""
    try:
        async with asyncio.timeout(WITHIN):
            found = {prefix: await agent.store.list(prefix) for prefix in prefixes}
            nodes = await agent.catalog.nodes() if hosts else ()
    except (RegistryError, TimeoutError) as error:
        reason = str(error) or f"no answer within {WITHIN:g} s"
        return Whole(agent, missing=f"the registry is not reached, shown is what this host follows: {reason}")
    return Whole(agent, _folded(agent, found), {one.name: one for one in nodes})


def _folded(agent: Agent, found: Mapping[str, Listing]) -> Fold:
    """What was listed, seen with the leases that this host follows."""
    fold, now = Fold(BASE | found.keys()), agent.around.clock()
    leases = {keys.lease(node): value for node, value in agent.fold.leases.items()}
    entries = tuple(Entry(key=key, value=value, version=0, created=0) for key, value in leases.items())
    fold.apply(keys.LEASES, Resync(0, entries), now)
    for prefix, listing in found.items():
        fold.apply(prefix, Resync(listing.index, listing.entries), now)
    return fold


# ---- some services, seen from here --------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sight:
    """A host's view with all that decides about some services, and their instances. `missing` as in `Whole`."""

    view: HostView
    instances: tuple[Instance, ...]
    missing: str = ""


async def around(agent: Agent, services: frozenset[str], planned: Mapping[Name, AnyDocument] = NOTHING) -> Sight:
    """What decides about requests to these services, whether this host follows them or not.

    `planned`: documents that are not written yet, and may lead to further services.
    """
    view = agent.compilation.view()
    names = closure({**view.documents, **planned}, services)
    known = agent.fold.known
    followed = all(known(key) for name in names for key in (*interest.calling(name), *interest.hosting(name)))
    policy = Whole(agent) if followed else await read(agent, keys.POLICY)
    documents: dict[Name, AnyDocument] = dict(view.documents)
    unreadable: set[Name] = set(view.unreadable)
    while True:
        for name, document in _concerning(policy, Interest(called=names, hosted=names)):
            parsed = parse(document.kind, document.name, document.text, version=document.version).document
            if parsed is not None:
                documents[name] = parsed
            else:
                unreadable.add(name)
        further = closure({**documents, **planned}, services)
        if further <= names:
            break
        names = further
    unknown = sorted(name for name in names if not known(interest.endpoints(name)))
    whole = await read(agent, *map(interest.endpoints, unknown)) if unknown else policy
    endpoints = {name: whole.endpoints(name) for name in sorted(names)}
    others = {name: view.endpoints[name] for name in view.endpoints if name not in endpoints}
    seen = replace(view, documents=documents, unreadable=frozenset(unreadable), endpoints=others | endpoints)
    instances = tuple(one.instance for found in endpoints.values() for one in found)
    return Sight(seen, instances, policy.missing or whole.missing)


def _concerning(policy: Whole, about: Interest) -> Iterable[tuple[Name, Document]]:
    """Documents of a listing that are about some services, and that this host does not follow itself."""
    for name, document in policy.listed.documents.items():
        if interest.concerns(about, *name) and not policy.follows(name):
            yield name, document
