"""A text's values with their places: what YAML and JSON readers yield and schemas read."""

from collections.abc import Iterator
from dataclasses import dataclass

from policies.problem import plain

MAX_DEPTH = 24  # no document of ours nests deeper than 8
MAX_NODES = 50_000  # more than a document of 256 KB needs, less than half a second to read


@dataclass(frozen=True)
class Place:
    """Counted from 1."""

    line: int
    column: int


@dataclass(frozen=True)
class Scalar:
    """`text` as written; `quoted`: certainly a string, otherwise the field's type decides what it is."""

    place: Place
    text: str
    quoted: bool

    @property
    def null(self) -> bool:
        return not self.quoted and self.text in ("", "~", "null", "Null", "NULL")


@dataclass(frozen=True)
class Sequence:
    place: Place
    items: tuple["Node", ...]


@dataclass(frozen=True)
class Mapping:
    """Keys in order, duplicates kept: the schema reports them with their line."""

    place: Place
    items: tuple[tuple[Scalar, "Node"], ...]


Node = Scalar | Sequence | Mapping


class Malformed(Exception):
    """The text is no value at all. Never leaves `policies`: `parse` turns it into a Problem."""

    def __init__(self, reason: str, place: Place | None = None, hint: str = "") -> None:
        super().__init__(reason)
        self.reason = reason
        self.place = place
        self.hint = hint


def empty(node: Node) -> bool:
    """Says nothing: null, "", {}, [], 0 or false all the way down, as `consul config read` prints unset fields."""
    match node:
        case Scalar():
            return node.null or node.text == "" or (not node.quoted and node.text in ("0", "false"))
        case Sequence():
            return not node.items
        case Mapping():
            return all(empty(value) for _, value in node.items)


def locate(root: Node, path: str) -> Place:
    """The place of `Routes[0].Match`, or of the deepest part of it that exists."""
    node = root
    for step in _steps(path):
        below = _child(node, step)
        if below is None:
            break
        node = below
    return node.place


def _steps(path: str) -> Iterator[str]:
    for part in filter(None, path.split(".")):
        name, *indices = part.split("[")
        yield name
        yield from (index.removesuffix("]") for index in indices)


def _child(node: Node, step: str) -> Node | None:
    match node:
        case Mapping():
            return next((value for key, value in node.items if plain(key.text) == plain(step)), None)
        case Sequence() if step.isdigit() and int(step) < len(node.items):
            return node.items[int(step)]
        case _:
            return None
