"""What is known now to what the proxy is told: the view of the mesh from this host, compiled and handed on.

When to compile is decided by `sync`; here is only what goes in, and what comes out as the next version.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace

from meshd.control.cold_start import ColdStart
from meshd.control.documents import Documents, Name
from meshd.control.identity import Identities
from meshd.control.register import Registrar
from meshd.control.stored import Stored
from meshd.dataplane.client import Dataplane
from policies.compile import Compiler
from policies.compiled import AnyResource
from policies.instances import registered
from policies.problem import Problem
from policies.schema.kinds import AnyDocument
from policies.view import HostView
from policies.view import Protocol as Spoken
from registry import keys
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


class Endpoints(Mapping[str, tuple[Endpoint, ...]]):
    """Endpoints by service at one moment, folded when asked for: a host needs few of a mesh's services."""

    def __init__(self, fold: Fold, now: float) -> None:
        self._fold = fold
        self._now = now
        self._services = fold.services
        self._found: dict[str, tuple[Endpoint, ...]] = {}

    def __getitem__(self, service: str) -> tuple[Endpoint, ...]:
        if service not in self._services:
            raise KeyError(service)
        if service not in self._found:
            self._found[service] = self._fold.endpoints(service, self._now)
        return self._found[service]

    def __iter__(self) -> Iterator[str]:
        return iter(sorted(self._services))

    def __len__(self) -> int:
        return len(self._services)


class Compilation:
    """`compile` makes the next version. `on_compiled` is told its number, `on_learnt` that a restart needs more.

    `meshed` and `spoken` outlive the instances that said it, and restarts: set them to what was remembered.
    """

    def __init__(self, place: Place, sources: Sources, clock: Callable[[], float]) -> None:
        self._place = place
        self._sources = sources
        self._clock = clock
        self._compiler = Compiler()
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
            local=sources.registrar.local,
            endpoints=Endpoints(sources.fold, self._clock()),
            documents=self._in_force(),
            access_log_path=self._place.access_log,
            unreadable=sources.documents.unreadable,
            meshed=self.meshed,
            spoken=self.spoken,
        )

    @property
    def heard_documents(self) -> bool:
        """From the registry, or from the signed snapshot in its place."""
        fold = self._sources.fold
        return fold.listed | fold.restored >= {keys.POLICY, keys.CONFIG}

    def _in_force(self) -> Mapping[Name, AnyDocument]:
        """Until policy is heard what the disk remembers; nothing where the snapshot must not be used: calls are denied
        then, and older copies beside it would undo that."""
        sources = self._sources
        if self.heard_documents:
            return sources.documents.good
        return {} if sources.cold_start.state.word in ("refused", "too old") else sources.documents.remembered()

    def _learn(self) -> None:
        """What outlives the instances that said it."""
        instances = self._sources.fold.instances
        meshed = self.meshed | {key.service for key, one in instances.items() if one.inbound is not None}
        spoken = self.spoken | {key.service: registered(one) for key, one in instances.items()}
        if (meshed, spoken) != (self.meshed, self.spoken):
            self.meshed, self.spoken = meshed, spoken
            self.on_learnt()
