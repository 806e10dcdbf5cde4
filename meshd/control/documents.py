"""Documents in force: the last good version of each, kept on disk, with `history/` as the last resort.

A version that is refused never replaces one that was accepted. A host that has none takes the newest valid version
from the history; until one is found the document counts as unreadable, and intentions then deny.
"""

import base64
from collections.abc import Iterable, Mapping
from pathlib import Path

import msgspec

from meshd.control.history import newest_first
from meshd.control.registrations import replace
from meshd.control.status import Held, Rejection, digest
from policies.parse import parse
from policies.schema.kinds import AnyDocument
from registry.model import Document
from registry.store import Entry

Name = tuple[str, str]  # (kind, name)


class Saved(msgspec.Struct, frozen=True):
    """One accepted version on disk; `text` in base64."""

    kind: str
    name: str
    version: int
    text: str


class Documents:
    """Feed it the fold's documents. `good` is what to compile with."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._seen: dict[Name, Document] = {}
        self._texts: dict[Name, Document] = {}  # the accepted text behind each of `good`
        self._held: dict[Name, Held] = {}  # what `in_force` says of each
        self._in_force: dict[str, Held] | None = None
        self._saved: Mapping[Name, Document] = {}
        self.good: dict[Name, AnyDocument] = {}
        self.rejected: dict[Name, Rejection] = {}
        self.warnings: dict[Name, tuple[str, ...]] = {}

    def load(self) -> str:
        """The versions accepted before a restart, used where the current one is refused. Returns a problem or ""."""
        try:
            found = msgspec.json.decode(self._path.read_bytes(), type=list[Saved])
            documents = [
                Document(kind=one.kind, name=one.name, version=one.version, text=base64.b64decode(one.text))
                for one in found
            ]
        except FileNotFoundError:
            return ""
        except (msgspec.DecodeError, OSError, ValueError) as error:
            return f"{self._path}: {error}"
        self._saved = {(one.kind, one.name): one for one in documents}
        return ""

    def update(self, current: Mapping[Name, Document]) -> frozenset[Name]:
        """Take in what the registry holds now; returns the names whose version in force, or refusal, moved."""
        moved = set()
        for name in [name for name in self._seen if name not in current]:
            self._forget(name)
            moved.add(name)
        for name, document in current.items():
            if self._seen.get(name) != document:
                self._seen[name] = document
                self._take(name, document)
                moved.add(name)
        return frozenset(moved)

    def remembered(self) -> dict[Name, AnyDocument]:
        """What was accepted before a restart: in force until the registry has been heard."""
        found = {}
        for name, document in self._saved.items():
            parsed = parse(document.kind, document.name, document.text, version=document.version)
            if parsed.document is not None:
                found[name] = parsed.document
        return found

    @property
    def before(self) -> Iterable[Document]:
        """The versions accepted before a restart, as they were stored."""
        return self._saved.values()

    @property
    def unreadable(self) -> frozenset[Name]:
        """Documents that exist but of which no valid version is known."""
        return frozenset(name for name in self.rejected if name not in self.good)

    @property
    def wanted(self) -> frozenset[Name]:
        """Names to look up in the history."""
        return self.unreadable

    def from_history(self, name: Name, entries: Iterable[Entry]) -> bool:
        """Use the newest valid version of a listing of `history/<kind>/<name>/`; False: there is none."""
        if name not in self.unreadable:
            return False
        return any(
            self._accept(Document(kind=name[0], name=name[1], text=text, version=version))
            for version, text in newest_first(entries)
        )

    def in_force(self) -> Mapping[str, Held]:
        """By `<kind>/<name>`, for the host's status; another object whenever it differs."""
        if self._in_force is None:
            self._in_force = {f"{kind}/{name}": self._held[kind, name] for kind, name in sorted(self._texts)}
        return self._in_force

    def refused(self) -> dict[str, Rejection]:
        return {f"{kind}/{name}": rejection for (kind, name), rejection in sorted(self.rejected.items())}

    def accepted(self) -> tuple[Document, ...]:
        """The texts in force."""
        return tuple(self._texts.values())

    def save(self) -> None:
        """Keep the accepted versions for a restart. Raises Unavailable. Blocks: call it off the event loop."""
        saved = [
            Saved(one.kind, one.name, one.version, base64.b64encode(one.text).decode())
            for one in sorted(self._texts.values(), key=lambda one: (one.kind, one.name))
        ]
        replace(self._path, msgspec.json.encode(saved))

    def _take(self, name: Name, document: Document) -> None:
        parsed = parse(document.kind, document.name, document.text, version=document.version)
        if parsed.document is not None:
            self._use(name, document, parsed.document)
            self.rejected.pop(name, None)
            self.warnings[name] = tuple(map(str, parsed.problems))
            return
        self.warnings.pop(name, None)
        problems = tuple(map(str, parsed.problems))
        self.rejected[name] = Rejection(digest(document.text), document.version, problems)
        if name not in self.good and name in self._saved:
            self._accept(self._saved[name])

    def _accept(self, document: Document) -> bool:
        """An earlier version, in place of one that is refused."""
        parsed = parse(document.kind, document.name, document.text, version=document.version)
        if parsed.document is None:
            return False
        name = (document.kind, document.name)
        self._use(name, document, parsed.document)
        return True

    def _use(self, name: Name, document: Document, parsed: AnyDocument) -> None:
        self.good[name] = parsed
        self._texts[name] = document
        self._held[name] = Held(digest(document.text), document.version)
        self._in_force = None

    def _forget(self, name: Name) -> None:
        for table in (self._seen, self._texts, self._held, self.good, self.rejected, self.warnings):
            table.pop(name, None)
        self._in_force = None
