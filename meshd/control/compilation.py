"""What is known now to what the proxy is told: the view of the mesh from this host, compiled and handed on.

When to compile is decided by `sync`; here is only what goes in, and what comes out as the next version.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from meshd.control.cold_start import ColdStart
from meshd.control.documents import Documents, Name
from meshd.control.identity import Identities
from meshd.control.register import Registrar
from meshd.control.stored import Stored
from meshd.control.subscriptions import Subscriptions
from meshd.dataplane.client import Dataplane
from policies.compile import Compiler
from policies.compiled import AnyResource
from policies.instances import registered
from policies.problem import Problem
from policies.schema.kinds import AnyDocument
from policies.span import moved
from policies.view import HostView
from policies.view import Protocol as Spoken
from registry.change import Change
from registry.fold import Fold
from registry.model import Address, Endpoint


@dataclass(frozen=True)
class Place:
    """What the compiler needs to know of this host."""

    node: str
    inbound: Address
    loopback: str
    access_log: str


@dataclass(frozen=True)
class Sources:
    """What a Compilation reads, and the proxy's side that it feeds."""

    fold: Fold
    registrar: Registrar
    identities: Identities
    documents: Documents
    cold_start: ColdStart
    dataplane: Dataplane
    subscriptions: Subscriptions


class Endpoints(Mapping[str, tuple[Endpoint, ...]]):
    """Endpoints by service, folded when asked for: a host needs few of a mesh's services.

    The same tuple until the service is touched. A service that nobody knows has no endpoints.
    """

    def __init__(self, fold: Fold, clock: Callable[[], float]) -> None:
        self._fold = fold
        self._clock = clock
        self._folded: dict[str, tuple[Endpoint, ...]] = {}
        self._stale: set[str] = set()
        self._doubt = self._doubts()

    def touch(self, services: Iterable[str]) -> None:
        """They may have moved."""
        self._stale.update(services)

    def newcomers(self) -> Iterable[Endpoint]:
        """Folds what was touched, or all when what decides about all has moved; yields what is new of it, once."""
        doubt = self._doubts()
        if doubt != self._doubt:
            self._doubt = doubt
            self._stale.update(self._folded)
        for service in sorted(self._stale):
            before = self._folded.get(service, ())
            yield from moved(before, self[service])[1]

    def __getitem__(self, service: str) -> tuple[Endpoint, ...]:
        known = self._folded.get(service)
        if known is not None and service not in self._stale:
            return known
        self._stale.discard(service)
        found = self._folded[service] = self._fold.endpoints(service, self._clock())
        return found

    def __contains__(self, service: object) -> bool:
        return service in self._fold.services

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._fold.services))

    def __len__(self) -> int:
        return len(self._fold.services)

    def _doubts(self) -> tuple[object, ...]:
        fold = self._fold
        return fold.foreign, frozenset(fold.unreachable), frozenset(fold.restored), fold.limits, fold.half_life


class Compilation:
    """`compile` makes the next version. `on_compiled` is told its number, `on_learnt` that a restart needs more.

    `meshed` and `spoken` outlive the instances that said it, and restarts: set them to what was remembered.
    """

    def __init__(self, place: Place, sources: Sources, clock: Callable[[], float]) -> None:
        self._place = place
        self._sources = sources
        self._clock = clock
        self._compiler = Compiler()
        self._endpoints = Endpoints(sources.fold, clock)
        self.stored = Stored(place.node)  # what the registry holds of this host: fed by `sync`
        self.meshed: frozenset[str] = frozenset()
        self.spoken: dict[str, Spoken] = {}
        self.version = 0
        self.problems: tuple[Problem, ...] = ()
        self.resources: tuple[AnyResource, ...] = ()
        self.on_compiled: Callable[[int], None] = lambda version: None
        self.on_learnt: Callable[[], None] = lambda: None

    @property
    def node(self) -> str:
        return self._place.node

    def moved(self, change: Change) -> None:
        """The fold has moved; what it does not name is taken to be as it was."""
        self._endpoints.touch(change.services)

    def access_log(self, path: str) -> None:
        """Where the proxy writes its access log from now on; empty: its stdout."""
        self._place = replace(self._place, access_log=path)

    def compile(self) -> None:
        """Compile for this host and hand the result to the proxy."""
        sources = self._sources
        local = sources.registrar.local
        known = self.stored.instances or {}
        signable = (one.key for one in local if one.key in known and known[one.key].state != "withdrawn")
        sources.identities.follow((one.key for one in local), signable)
        compiled = self._compiler.compile(self.view())
        self.problems = compiled.problems
        self.resources = (*compiled.resources, *sources.identities.resources(), sources.identities.trust())
        self.version += 1
        self.on_compiled(self.version)
        sources.dataplane.want(self.version, self.resources)

    def view(self) -> HostView:
        """This host's view now: compiled from, for explanations, and for what other hosts would compile."""
        self._learn()
        sources = self._sources
        return HostView(
            node=self._place.node,
            trust_domain=sources.identities.trust_domain,
            inbound=self._place.inbound,
            loopback=self._place.loopback,
            local=sources.subscriptions.local(),
            endpoints=self._endpoints,
            documents=self._in_force(),
            access_log_path=self._place.access_log,
            unreadable=sources.documents.unreadable,
            wanted=sources.subscriptions.wanted,
            meshed=self.meshed,
            spoken=self.spoken,
        )

    @property
    def heard_documents(self) -> bool:
        """From the registry, or from the signed snapshot in its place."""
        return self._sources.subscriptions.begun or self._sources.fold.usable

    def _in_force(self) -> Mapping[Name, AnyDocument]:
        """Until policy is heard what the disk remembers; nothing where the snapshot must not be used: calls are denied
        then, and older copies beside it would undo that."""
        sources = self._sources
        if self.heard_documents:
            return sources.subscriptions.documents()
        return {} if sources.cold_start.state.word in ("refused", "too old") else sources.documents.remembered()

    def _learn(self) -> None:
        """What outlives the instances that said it."""
        fresh = [one.instance for one in self._endpoints.newcomers()]
        meshed = {one.service for one in fresh if one.inbound is not None} - self.meshed
        spoken = {one.service: registered(one) for one in fresh}
        if meshed or any(self.spoken.get(name) != said for name, said in spoken.items()):
            self.meshed, self.spoken = self.meshed | meshed, {**self.spoken, **spoken}
            self.on_learnt()
