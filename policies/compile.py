"""Documents and endpoints to the proxy's resources: one file that says what a host is told, and in which parts.

A change of the mesh touches few parts of a host's configuration. `Compiler` remembers which facts each part asked for
(`Context`) and makes again only those whose facts have moved; everything else is the same objects as before. What a
Compiler yields after any sequence of views is what a new one yields for the last view (a property test holds it to it).
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import msgspec

from policies.compiled import AccessLog, AnyResource, Listener, Settings
from policies.context import CALLERS, LOCAL, Context, services_of
from policies.endpoints import Endpoints
from policies.inbound import inbounds
from policies.instances import Instances
from policies.problem import Problem
from policies.routes import routes
from policies.schema.mesh import Mesh
from policies.schema.service_resolver import ServiceResolver
from policies.select import Fact, Index, fact, facts, reachable
from policies.upstreams import listeners, service
from policies.view import Compiled, HostView
from registry.model import Instance

__all__ = ["Compiled", "Compiler", "HostView", "compile_host"]

Key = tuple[str, str]  # of a part: its kind, and the service that it is about


class Part(msgspec.Struct, frozen=True):
    """Resources that are made together, from the answers to the questions `asked`."""

    resources: tuple[AnyResource, ...]
    problems: frozenset[Problem]
    asked: frozenset[Fact]


class Reach(msgspec.Struct, frozen=True):
    """`services`, sorted: where requests for `wanted` may end, from the answers to the questions `asked`."""

    wanted: frozenset[str]
    services: tuple[str, ...]
    asked: frozenset[Fact]


def compile_host(view: HostView) -> Compiled:
    """As `Compiler.compile`, from nothing."""
    return Compiler().compile(view)


def kind_of(resource: AnyResource) -> str:
    """`listener`, `service`, ... as on the wire; with `/<name>` it is the resource's identity."""
    return str(resource.__struct_config__.tag)


class Compiler:
    """One host's, for one view after the other. Pure and deterministic: what it remembers only saves work."""

    def __init__(self) -> None:
        self._view: HostView | None = None
        self._index = Index({})
        self._parts: dict[Key, Part] = {}
        self._reach = Reach(frozenset(), (), frozenset())
        self._instances: dict[str, Instances] = {}
        self._endpoints: dict[str, Endpoints] = {}

    def compile(self, view: HostView) -> Compiled:
        """The host's whole configuration but identities and trust.

        Compiled are the upstreams of the local instances, `view.wanted`, and every service that their requests may
        end at. Nothing here raises for what documents or registrations hold: what cannot be served is left out or
        marked, and is a Problem.
        """
        moved = self._take(view)
        context = Context(view, self._index, partial(self._instances_of, view))
        parts: dict[Key, Part] = {}

        def part(key: Key, make: Callable[[], tuple[AnyResource, ...]]) -> tuple[AnyResource, ...]:
            known = self._parts.get(key)
            parts[key] = known if known and known.asked.isdisjoint(moved) else _made(context, make)
            return parts[key].resources

        ports = part(("listener", ""), lambda: listeners(context))
        services = self._reached(
            frozenset(port.service for port in ports if isinstance(port, Listener)) | view.wanted, moved
        )
        resources: list[AnyResource] = []
        for name in services:
            resources += self._endpoints_of(view, name).resources
        for name in services_of(view.local):
            resources += part(("inbound", name), partial(inbounds, context, name))
        resources += ports
        for name in services:
            resources += part(("routes", name), partial(_one, routes, context, name))
        for name in services:
            resources += part(("service", name), partial(_one, service, context, name))
        resources += part(("settings", ""), lambda: _settings(context))
        self._parts = parts
        problems = frozenset[Problem]().union(
            *(one.problems for one in parts.values()), *(one.problems for one in self._endpoints.values())
        )
        return Compiled(resources=tuple(resources), problems=tuple(sorted(problems)))

    # ---- what moved -------------------------------------------------------------------------------------------------

    def _take(self, view: HostView) -> set[Fact]:
        """The facts that differ from those of the view before. Nothing is left to compare with where all may differ."""
        before = self._view
        after = replace(view, endpoints={}, documents=dict(view.documents), spoken=dict(view.spoken))
        self._view = after
        if before is None or _fixed(before) != _fixed(after):
            self._index = Index(after.documents, after.unreadable)
            self._reach = Reach(frozenset(), (), frozenset())
            for kept in (self._parts, self._instances, self._endpoints):
                kept.clear()
            return set()
        moved = facts(before.documents, after.documents) | set(map(fact, before.unreadable ^ after.unreadable))
        if moved:
            self._index = Index(after.documents, after.unreadable)
        moved |= {("meshed", name) for name in before.meshed ^ after.meshed}
        moved |= {("spoken", name) for name, _ in before.spoken.items() ^ after.spoken.items()}
        moved |= _local_facts(before.local, after.local)
        for name, instances in self._instances.items():
            if instances.update(view.endpoints.get(name, ())):
                moved.add(("instances", name))
        return moved

    def _instances_of(self, view: HostView, name: str) -> Instances:
        if name not in self._instances:
            self._instances[name] = Instances(view.node)
            self._instances[name].update(view.endpoints.get(name, ()))
        return self._instances[name]

    # ---- what follows -----------------------------------------------------------------------------------------------

    def _reached(self, wanted: frozenset[str], moved: set[Fact]) -> tuple[str, ...]:
        if wanted != self._reach.wanted or not self._reach.asked.isdisjoint(moved):
            self._index.asked = set()
            services = reachable(self._index, wanted)
            self._reach = Reach(wanted, tuple(sorted(services)), frozenset(self._index.asked))
            # Parts ask only about services that their own can reach, so nobody misses the others.
            self._instances = {name: one for name, one in self._instances.items() if name in services}
            self._endpoints = {name: one for name, one in self._endpoints.items() if name in services}
        return self._reach.services

    def _endpoints_of(self, view: HostView, name: str) -> Endpoints:
        found = self._endpoints.get(name)
        if found is None:
            found = self._endpoints[name] = Endpoints(name, view.trust_domain)
        resolver = self._index.find(ServiceResolver, name)
        found.update(view.endpoints.get(name, ()), resolver.subsets if resolver else {})
        return found


def _one(make: Callable[[Context, str], AnyResource], context: Context, name: str) -> tuple[AnyResource, ...]:
    return (make(context, name),)


def _made(context: Context, make: Callable[[], tuple[AnyResource, ...]]) -> Part:
    context.problems, context.index.asked = set(), set()
    return Part(make(), frozenset(context.problems), frozenset(context.index.asked))


def _fixed(view: HostView) -> tuple[object, ...]:
    """What every part may use without asking."""
    place = view.node, view.trust_domain, view.inbound, view.loopback
    return *place, view.access_log_path, view.forbid_default_allow


def _local_facts(before: tuple[Instance, ...], after: tuple[Instance, ...]) -> set[Fact]:
    if before == after:
        return set()
    old, new = set(services_of(before)), set(services_of(after))
    differ = {
        name
        for name in old | new
        if [one for one in before if one.service == name] != [one for one in after if one.service == name]
    }
    return {LOCAL, *(("local", name) for name in differ), *((CALLERS,) if old != new else ())}


def _settings(context: Context) -> tuple[Settings, ...]:
    view = context.view
    mesh = context.index.mesh() or Mesh(name="mesh", version=0)
    log = AccessLog(enabled=mesh.access_log.enabled, path=view.access_log_path, sample=mesh.access_log.sample)
    settings = Settings(
        name="settings",
        node=view.node,
        inbound_address=view.inbound.address,
        inbound_port=view.inbound.port,
        access_log=log,
        explain_denials=mesh.explain_denials,
        trace_sampling=mesh.tracing.sampling,
    )
    return (settings,)
