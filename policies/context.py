"""What the parts of one compilation ask: the view, its documents, and the Problems found on the way.

Whatever is asked is noted as a Fact, so that a part is made again only when something that it asked has moved. A part
must not read `view.local`, `endpoints`, `meshed`, `spoken` or `documents` past the questions below.
"""

from collections.abc import Callable, Iterable

from policies.instances import Instances, registered
from policies.problem import Problem, shown
from policies.schema.kinds import AnyDocument
from policies.schema.service_defaults import ServiceDefaults
from policies.select import Fact, Index
from policies.view import HostView, Protocol
from registry.model import Instance

CALLERS: Fact = ("callers", "")
LOCAL: Fact = ("local", "*")


class Context:
    """Lives for one compilation. Problems are a set: the same fault seen twice is one."""

    def __init__(
        self, view: HostView, index: Index | None = None, instances: Callable[[str], Instances] | None = None
    ) -> None:
        self.view = view
        self.index = Index(view.documents, view.unreadable) if index is None else index
        self.problems: set[Problem] = set()
        self._instances = instances or (lambda service: instances_of(view, service))

    def note(self, document: AnyDocument, path: str, reason: str, hint: str = "") -> None:
        self.problems.add(Problem(kind=document.kind, name=document.name, path=path, reason=reason, hint=hint))

    def note_instance(self, instance: Instance, reason: str, hint: str = "") -> None:
        self.problems.add(Problem(kind="instance", name=str(instance.key), reason=reason, hint=hint))

    @property
    def local(self) -> tuple[Instance, ...]:
        """All instances of this host."""
        self.index.asked.add(LOCAL)
        return self.view.local

    def local_of(self, service: str) -> tuple[Instance, ...]:
        self.index.asked.add(("local", service))
        return tuple(instance for instance in self.view.local if instance.service == service)

    @property
    def callers(self) -> tuple[str, ...]:
        """The services of this host's instances."""
        self.index.asked.add(CALLERS)
        return services_of(self.view.local)

    def meshed(self, service: str) -> bool:
        """A service once seen in the mesh stays there: clearing the marker in the registry is no downgrade."""
        self.index.asked.update((("meshed", service), ("instances", service)))
        return service in self.view.meshed or self._instances(service).meshed

    def protocol(self, service: str) -> Protocol:
        """Of a service that nobody has said anything of, http: its callers then get a 503 that names it, where a
        closed connection would say nothing; there is no instance that could be spoken to wrongly."""
        self.index.asked.add(("spoken", service))
        return self.known_protocol(service) or self.view.spoken.get(service) or "http"

    def known_protocol(self, service: str) -> Protocol | None:
        """As `service-defaults` says, else as most instances are registered; None: nobody has said anything."""
        defaults = self.index.find(ServiceDefaults, service)
        if defaults is not None and defaults.protocol is not None:
            return defaults.protocol
        self.index.asked.add(("instances", service))
        said = self._instances(service).spoken(self.local_of(service))
        if said["tcp"] and said["http"]:
            reason = "instances are registered as tcp and as http"
            hint = f"service-defaults/{service} with Protocol settles it"
            self.problems.add(Problem(kind=ServiceDefaults.kind, name=service, reason=reason, hint=hint))
        if not said["tcp"] and not said["http"]:
            return None
        return "http" if said["http"] >= said["tcp"] else "tcp"

    def own_protocol(self, instance: Instance) -> Protocol:
        """Of one local instance: the callee decides from its own configuration, not from what others register."""
        defaults = self.index.find(ServiceDefaults, instance.service)
        if defaults is not None and defaults.protocol is not None:
            return defaults.protocol
        if instance.mesh.protocol not in (None, "tcp", "http"):
            self.note_instance(instance, f"protocol {shown(instance.mesh.protocol or '')} is not supported: tcp it is")
        return registered(instance)


def instances_of(view: HostView, service: str) -> Instances:
    found = Instances(view.node)
    found.update(view.endpoints.get(service, ()))
    return found


def services_of(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Names of their services, sorted, each once."""
    return tuple(sorted({instance.service for instance in instances}))
