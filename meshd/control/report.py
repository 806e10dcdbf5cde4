"""What is in force here: documents by the version that the proxy has applied, not by what was sent."""

import re
from collections.abc import Callable, Mapping

import msgspec

from meshd.control.documents import Documents, Name
from meshd.control.status import Held, HostStatus, ProxySeen, Rejection
from meshd.dataplane.client import Dataplane, Refusal
from policies.compiled import AnyResource
from registry.interest import Interest

ORIGIN = re.compile(r'"(?:fallback_)?origin":"([^"#]+)#')
DEFAULT = "default"


class Snapshot(msgspec.Struct, frozen=True):
    """Documents as they went into one compiled version."""

    documents: Mapping[str, Held]
    rejected: dict[str, Rejection]


class Report:
    """`compiled` and `applied` are told version by version; `current` is the host's status."""

    def __init__(self, node: str, version: str, documents: Documents, dataplane: Dataplane) -> None:
        self._node = node
        self._version = version
        self._documents = documents
        self._dataplane = dataplane
        self._waiting: dict[int, Snapshot] = {}
        self._in_force = Snapshot({}, {})
        self.resources: Callable[[], tuple[AnyResource, ...]] = lambda: ()
        self.interest: Callable[[], Interest] = Interest
        self.held: Callable[[], frozenset[Name]] = frozenset  # accepted documents that are not compiled with yet
        self.problems: Callable[[], tuple[str, ...]] = lambda: ()
        self.registries: Callable[[], dict[str, str]] = dict

    def compiled(self, version: int) -> None:
        held = {f"{kind}/{name}" for kind, name in self.held()}
        documents = {name: one for name, one in self._documents.in_force().items() if name not in held}
        self._waiting[version] = Snapshot(documents, self._documents.refused())

    def applied(self, version: int) -> None:
        found = self._waiting.get(version)
        self._waiting = {later: one for later, one in self._waiting.items() if later > version}
        if found is not None:
            self._in_force = found

    def current(self) -> HostStatus:
        link = self._dataplane.link
        hello = link.hello if link is not None else None
        refused = by_document(self._dataplane.refused, self.resources())
        documents = self._in_force.documents
        rejected = dict(self._in_force.rejected)
        for name, reasons in refused.items():
            if name in documents:
                rejected[name] = Rejection(documents[name].digest, documents[name].version, reasons)
        return HostStatus(
            node=self._node,
            version=self._version,
            update=self._dataplane.update,
            documents={name: held for name, held in documents.items() if name not in refused},
            rejected=rejected,
            interest=self.interest(),
            proxy=ProxySeen(hello.pid, hello.generation, hello.version) if hello is not None else ProxySeen(),
            problems=(*self.problems(), *(reason for reasons in refused.values() for reason in reasons)),
            registries=self.registries(),
        )


def by_document(refused: Mapping[str, Refusal], resources: tuple[AnyResource, ...]) -> dict[str, tuple[str, ...]]:
    """Which documents are behind what the proxy refused, by the origins in the refused resources."""
    if not refused:
        return {}
    found: dict[str, tuple[str, ...]] = {}
    for resource in resources:
        name = f"{resource.__struct_config__.tag}/{resource.name}"
        refusal = refused.get(name)
        if refusal is None:
            continue
        reason = f"the proxy refuses {name} {refusal.path}: {refusal.reason}"
        for document in sorted(origins(resource)):
            found[document] = (*found.get(document, ()), reason)
    return found


def origins(resource: AnyResource) -> frozenset[str]:
    """`<kind>/<name>` of every document that a resource's rules come from."""
    text = msgspec.json.encode(resource).decode()
    return frozenset(name for name in ORIGIN.findall(text) if name != DEFAULT)
