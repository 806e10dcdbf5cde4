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
Fact = tuple[str, str]  # what was asked of whom; documents: (kind, service), any pattern of a kind: (kind, "*")


class Index:
    """Documents with their patterns sorted once. `asked` collects the Fact behind every answer."""

    def __init__(self, documents: Documents, unreadable: Iterable[tuple[str, str]] = ()) -> None:
        self.asked: set[Fact] = set()
        self._documents = documents
        self._faults: dict[str, list[Fault]] = {}
        for document in documents.values():
            if isinstance(document, Fault):
                self._faults.setdefault(document.service, []).append(document)
        self._names = frozenset(documents) | frozenset(unreadable)
        self._prefixes: dict[str, list[str]] = {}
        for kind, name in self._names:
            if name.endswith("*"):
                self._prefixes.setdefault(kind, []).append(name[:-1])
        for prefixes in self._prefixes.values():
            prefixes.sort(key=lambda prefix: (-len(prefix), prefix))

    def names(self, kind: str, service: str) -> tuple[str, ...]:
        """Names of the documents, readable or not, that apply to the service; the most specific first."""
        self.asked.update(((kind, service), (kind, "*")))
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
        self.asked.add((Fault.kind, service))
        return tuple(sorted(self._faults.get(service, ()), key=lambda fault: fault.name))

    def mesh(self) -> Mesh | None:
        self.asked.add((Mesh.kind, "mesh"))
        document = self._documents.get((Mesh.kind, "mesh"))
        return document if isinstance(document, Mesh) else None


def by_precedence(document: ServiceIntentions) -> tuple[tuple[int, IntentionSource], ...]:
    """(index in the document, source): exact names before `*`, whatever their order. Names are unique in it."""
    return tuple(sorted(enumerate(document.sources), key=lambda pair: (pair[1].name == "*", pair[0])))


def closure(documents: Documents, wanted: frozenset[str]) -> frozenset[str]:
    """`wanted` and every service that their requests may end at: router to splitter to resolver, and on."""
    return reachable(Index(documents), wanted)


def reachable(index: Index, wanted: frozenset[str]) -> frozenset[str]:
    """As `closure`."""
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


def facts(before: Documents, after: Documents) -> set[Fact]:
    """What is answered differently by other documents, compared by identity."""
    left = [(name, document) for name, document in before.items() if after.get(name) is not document]
    came = [(name, document) for name, document in after.items() if before.get(name) is not document]
    found = set(map(fact, (name for name, _ in (*left, *came))))
    return found | {(Fault.kind, one.service) for _, one in (*left, *came) if isinstance(one, Fault)}


def fact(name: tuple[str, str]) -> Fact:
    """By a document's (kind, name)."""
    return (name[0], "*") if name[1].endswith("*") else name
