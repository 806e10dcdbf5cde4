"""What all parts of one compilation share: the view, its index, and the Problems found on the way."""

from collections.abc import Iterable

from policies.problem import Problem, shown
from policies.schema.kinds import AnyDocument
from policies.schema.service_defaults import ServiceDefaults
from policies.select import Index
from policies.view import HostView, Protocol
from registry.model import Instance


class Context:
    """Lives for one `compile_host`. Problems are a set: the same fault seen twice is one."""

    def __init__(self, view: HostView) -> None:
        self.view = view
        self.index = Index(view.documents, view.unreadable)
        self.problems: set[Problem] = set()
        self._protocols: dict[str, Protocol | None] = {}

    def note(self, document: AnyDocument, path: str, reason: str, hint: str = "") -> None:
        self.problems.add(Problem(kind=document.kind, name=document.name, path=path, reason=reason, hint=hint))

    def note_instance(self, instance: Instance, reason: str, hint: str = "") -> None:
        self.problems.add(Problem(kind="instance", name=str(instance.key), reason=reason, hint=hint))

    def protocol(self, service: str) -> Protocol:
        """Of a service that nobody has said anything of, http: its callers then get a 503 that names it, where a
        closed connection would say nothing; there is no instance that could be spoken to wrongly."""
        return self.known_protocol(service) or self.view.spoken.get(service) or "http"

    def known_protocol(self, service: str) -> Protocol | None:
        """As `service-defaults` says, else as most instances are registered; None: nobody has said anything."""
        if service not in self._protocols:
            self._protocols[service] = self._find_protocol(service)
        return self._protocols[service]

    def _find_protocol(self, service: str) -> Protocol | None:
        defaults = self.index.find(ServiceDefaults, service)
        if defaults is not None and defaults.protocol is not None:
            return defaults.protocol
        instances = {endpoint.instance.key: endpoint.instance for endpoint in self.view.endpoints.get(service, ())}
        instances |= {instance.key: instance for instance in self.view.local if instance.service == service}
        said = [registered(instance) for instance in instances.values()]
        if len(set(said)) > 1:
            reason = "instances are registered as tcp and as http"
            hint = f"service-defaults/{service} with Protocol settles it"
            self.problems.add(Problem(kind=ServiceDefaults.kind, name=service, reason=reason, hint=hint))
        if not said:
            return None
        return "http" if said.count("http") * 2 >= len(said) else "tcp"

    def own_protocol(self, instance: Instance) -> Protocol:
        """Of one local instance: the callee decides from its own configuration, not from what others register."""
        defaults = self.index.find(ServiceDefaults, instance.service)
        if defaults is not None and defaults.protocol is not None:
            return defaults.protocol
        if instance.mesh.protocol not in (None, "tcp", "http"):
            self.note_instance(instance, f"protocol {shown(instance.mesh.protocol or '')} is not supported: tcp it is")
        return registered(instance)


def registered(instance: Instance) -> Protocol:
    return "http" if instance.mesh.protocol == "http" else "tcp"


def services_of(instances: Iterable[Instance]) -> tuple[str, ...]:
    """Names of their services, sorted, each once."""
    return tuple(sorted({instance.service for instance in instances}))
