"""How a schema is written down: shapes of named fields, and the reader that walks a tree along them.

A reader takes a node and its path and returns a value, or notes a Problem and returns None; a document is used only
when no Problem was noted, so what a faulty one's fields hold does not matter.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from policies.problem import Problem, did_you_mean, plain, printable, shown
from policies.schema.tree import Mapping, Node, Place, Scalar, Sequence, empty

TENANCY = (("Namespace", "default"), ("Partition", "default"))
MAX_ITEMS = 4096  # of one list or mapping: every request would walk along it
MAX_PROBLEMS = 20  # a reader of messages stops well before; the rest is repetition


class Refused(Exception):
    """A value reader's "no". Never leaves this package: it becomes a Problem with the node's place."""

    def __init__(self, reason: str, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint


@dataclass
class Reading:
    """One document being read: whose it is and what was found wrong so far."""

    kind: str
    name: str
    file: str = ""
    first_line: int = 1  # of the text inside its file
    problems: list[Problem] = field(default_factory=list)

    @property
    def full(self) -> bool:
        """Nothing more is said, so nothing more need be read: looking for nearest names takes its time."""
        return len(self.problems) >= MAX_PROBLEMS

    def note(self, place: Place | None, path: str, reason: str, hint: str = "") -> None:
        if self.full:
            return
        line, column = (place.line + self.first_line - 1, place.column) if place else (0, 0)
        self.problems.append(
            Problem(
                kind=printable(self.kind),
                name=printable(self.name),
                file=self.file,
                line=line,
                column=column,
                path=path,
                reason=reason,
                hint=hint,
            )
        )


Reader = Callable[[Reading, Node, str], object]


@dataclass(frozen=True)
class Field:
    """A named field. Two fields may fill one `attr` (`ConnectTimeout`, `ConnectTimeoutMs`), but not in one document."""

    name: str
    attr: str
    read: Reader
    required: bool = False


@dataclass(frozen=True)
class Shape:
    """A mapping with known fields, built into `make(**attrs)`.

    `later`: known fields of Consul or of ours that are refused with "not supported yet" unless they say nothing.
    `dropped`: read and forgotten: they do not change what the mesh does.
    `fixed`: fields with the one value that is supported; Consul's namespace and partition are so everywhere.
    """

    make: Callable[..., object]
    fields: tuple[Field, ...]
    later: tuple[str, ...] = ()
    dropped: tuple[str, ...] = ()
    fixed: tuple[tuple[str, str], ...] = ()

    def __call__(self, reading: Reading, node: Node, path: str) -> object:
        if not isinstance(node, Mapping):
            reading.note(node.place, path, f"must be a mapping with fields, is {described(node)}")
            return None
        values = self._values(reading, node, path)
        for wanted in self.fields:
            if wanted.required and wanted.attr not in values:
                reading.note(node.place, joined(path, wanted.name), "is missing")
                values[wanted.attr] = None
        return self.make(**values)

    def _values(self, reading: Reading, node: Mapping, path: str) -> dict[str, object]:
        fields = {plain(known.name): known for known in self.fields}
        values: dict[str, object] = {}
        seen: dict[str, str] = {}  # by attr (or the plain name): the field that filled it
        for key, value in node.items:
            if reading.full:
                break
            known = fields.get(plain(key.text))
            attr = known.attr if known else plain(key.text)
            if attr in seen:
                reading.note(key.place, joined(path, printable(key.text)), _twice(key.text, seen[attr]))
                continue
            seen[attr] = key.text
            if known is None:
                self._stranger(reading, key, value, path)
            elif not (isinstance(value, Scalar) and value.null):
                values[attr] = known.read(reading, value, joined(path, known.name))
        return values

    def _stranger(self, reading: Reading, key: Scalar, value: Node, path: str) -> None:
        spelled = plain(key.text)
        if any(spelled == plain(name) for name in self.dropped):
            return
        later = next((name for name in self.later if spelled == plain(name)), None)
        fixed = next(((name, only) for name, only in TENANCY + self.fixed if spelled == plain(name)), None)
        if fixed is not None:
            self._fixed(reading, value, joined(path, fixed[0]), fixed[1])
        elif later is None:
            known = [known.name for known in self.fields] + list(self.later)
            hint = did_you_mean(key.text, known)
            reading.note(key.place, path, f"unknown field {shown(key.text)}", hint)
        elif not empty(value):
            reading.note(key.place, joined(path, later), f"{later} is not supported yet", "leave it out")

    def _fixed(self, reading: Reading, value: Node, path: str, only: str) -> None:
        if not empty(value) and not (isinstance(value, Scalar) and value.text == only):
            reason = f"{described(value)} is not supported yet"
            reading.note(value.place, path, reason, f'only "{only}", or leave it out')


def scalar(convert: Callable[[Scalar], object]) -> Reader:
    """A reader for one plain value; `convert` returns it or raises Refused."""

    def read(reading: Reading, node: Node, path: str) -> object:
        if not isinstance(node, Scalar):
            reading.note(node.place, path, f"must be a single value, is {described(node)}")
            return None
        try:
            return convert(node)
        except Refused as refused:
            reading.note(node.place, path, refused.reason, refused.hint)
            return None

    return read


def list_of(item: Reader) -> Reader:
    """A tuple of items."""

    def read(reading: Reading, node: Node, path: str) -> object:
        if not isinstance(node, Sequence):
            reading.note(node.place, path, f"must be a list, is {described(node)}")
            return ()
        return tuple(item(reading, below, f"{path}[{i}]") for i, below in enumerate(_bounded(reading, node, path)))

    return read


def map_of(name: Callable[[Scalar], str], item: Reader) -> Reader:
    """A dict with the author's own keys, which are taken as they are written."""

    def read(reading: Reading, node: Node, path: str) -> object:
        if not isinstance(node, Mapping):
            reading.note(node.place, path, f"must be a mapping, is {described(node)}")
            return {}
        values: dict[str, object] = {}
        for key, below in _bounded(reading, node, path):
            try:
                named = name(key)
            except Refused as refused:
                reading.note(key.place, path, refused.reason, refused.hint)
                continue
            if named in values:
                reading.note(key.place, f"{path}.{named}", _twice(key.text, named))
            values[named] = item(reading, below, f"{path}.{named}")
        return values

    return read


def _bounded(reading: Reading, node: Sequence | Mapping, path: str) -> Iterator[Any]:
    """The items one by one, until there is nothing more to say; none when there are too many."""
    if len(node.items) > MAX_ITEMS:
        reading.note(node.place, path, f"has {len(node.items)} items", f"at most {MAX_ITEMS}")
        return
    for item in node.items:
        if reading.full:
            return
        yield item


def joined(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def described(node: Node) -> str:
    match node:
        case Scalar():
            return shown(node.text) if node.text else "empty"
        case Sequence():
            return "a list"
        case Mapping():
            return "a mapping"


def _twice(name: str, first: str) -> str:
    return "is set twice" if name == first else f"is set twice ({shown(first)} and {shown(name)})"
