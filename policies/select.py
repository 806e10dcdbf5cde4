"""Which documents apply to a service, in which order, and which services a host has to know.

Between documents: exact name before prefix (`web-*`, the longer first) before `*`; for all kinds but `mesh` (there is
one) and `fault` (all of a service's apply).
"""

from collections.abc import Iterable, Mapping
from typing import TypeVar

from policies.schema.fault import Fault
from policies.schema.kinds import AnyDocument
from policies.schema.mesh import Mesh
from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_intentions import IntentionSource, ServiceIntentions
from policies.schema.service_resolver import ServiceResolver
from policies.schema.service_router import ServiceRouter
from policies.schema.service_splitter import ServiceSplitter

Named = TypeVar("Named", ServiceDefaults, ServiceRouter, ServiceSplitter, ServiceResolver, ServiceIntentions)
Documents = Mapping[tuple[str, str], AnyDocument]
LEADING = frozenset((ServiceRouter.kind, ServiceSplitter.kind))  # kinds that lead from one service to others


class Index:
    """Documents with their patterns sorted once."""

    def __init__(self, documents: Documents, unreadable: Iterable[tuple[str, str]] = ()) -> None:
        self._documents = documents
        self._names = frozenset(documents) | frozenset(unreadable)
        self._prefixes: dict[str, list[str]] = {}
        for kind, name in self._names:
            if name.endswith("*"):
                self._prefixes.setdefault(kind, []).append(name[:-1])
        for prefixes in self._prefixes.values():
            prefixes.sort(key=lambda prefix: (-len(prefix), prefix))

    def names(self, kind: str, service: str) -> tuple[str, ...]:
        """Names of the documents, readable or not, that apply to the service; the most specific first."""
        exact = (service,) if (kind, service) in self._names else ()
        prefixes = self._prefixes.get(kind, ())
        return exact + tuple(f"{prefix}*" for prefix in prefixes if service.startswith(prefix))

    def find(self, kind: type[Named], service: str) -> Named | None:
        """The most specific readable document of the kind for the service."""
        for name in self.names(kind.kind, service):
            document = self._documents.get((kind.kind, name))
            if isinstance(document, kind):
                return document
        return None

    def intentions(self, service: str) -> tuple[tuple[str, ServiceIntentions | None], ...]:
        """(name, document) of all that apply, the most specific first; None: it cannot be read."""
        found = []
        for name in self.names(ServiceIntentions.kind, service):
            document = self._documents.get((ServiceIntentions.kind, name))
            found.append((name, document if isinstance(document, ServiceIntentions) else None))
        return tuple(found)

    def faults(self, service: str) -> tuple[Fault, ...]:
        """Experiments on the service, by their names."""
        found = [doc for doc in self._documents.values() if isinstance(doc, Fault) and doc.service == service]
        return tuple(sorted(found, key=lambda fault: fault.name))

    def mesh(self) -> Mesh | None:
        document = self._documents.get((Mesh.kind, "mesh"))
        return document if isinstance(document, Mesh) else None


def by_precedence(document: ServiceIntentions) -> tuple[tuple[int, IntentionSource], ...]:
    """(index in the document, source): exact names before `*`, whatever their order. Names are unique in it."""
    return tuple(sorted(enumerate(document.sources), key=lambda pair: (pair[1].name == "*", pair[0])))


def closure(documents: Documents, wanted: frozenset[str]) -> frozenset[str]:
    """`wanted` and every service that their requests may end at: router to splitter to resolver, and on."""
    index = Index(documents)
    found = set(wanted)
    todo = list(wanted)
    while todo:
        fresh = _targets(index, todo.pop()) - found
        found |= fresh
        todo.extend(fresh)
    return frozenset(found)


def _targets(index: Index, service: str) -> set[str]:
    router = index.find(ServiceRouter, service)
    splitter = index.find(ServiceSplitter, service)
    names = [route.destination.service for route in router.routes] if router else []
    names += [part.service for part in splitter.splits] if splitter else []
    return {name for name in names if name}
