"""JSON (RFC 8259) to a tree. Not read as YAML, of which it is nearly a part: tabs, `\\/` and surrogates differ."""

import re
from dataclasses import dataclass, field
from json import JSONDecodeError
from json.decoder import scanstring  # type: ignore[attr-defined]  # public, but not in the stubs

from policies.problem import shown
from policies.schema.tree import MAX_DEPTH, MAX_NODES, Malformed, Mapping, Node, Place, Scalar, Sequence

_SPACE = re.compile(r"[ \t\n\r]*")
_BARE = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null")


def read(text: str) -> Node:
    """The one value of the text. Raises Malformed."""
    reader = _Reader(text)
    root = reader.node(0)
    reader.space()
    if reader.at < len(text):
        raise Malformed("goes on after the end of its JSON value", reader.place(reader.at))
    return root


@dataclass
class _Reader:
    text: str
    at: int = 0
    lines: list[int] = field(default_factory=list)  # offsets where lines begin
    line: int = 0
    nodes: int = 0

    def __post_init__(self) -> None:
        self.lines = [0, *(found.end() for found in re.finditer("\n", self.text))]

    def place(self, at: int) -> Place:
        """Offsets are asked for in growing order, so the line only moves on."""
        while self.line + 1 < len(self.lines) and self.lines[self.line + 1] <= at:
            self.line += 1
        return Place(self.line + 1, at - self.lines[self.line] + 1)

    def space(self) -> None:
        found = _SPACE.match(self.text, self.at)
        self.at = found.end() if found else self.at

    def wrong(self, expected: str) -> Malformed:
        seen = shown(self.text[self.at]) if self.at < len(self.text) else "its end"
        return Malformed(f"is no JSON: {expected} expected, found {seen}", self.place(self.at))

    def node(self, depth: int) -> Node:
        self.space()
        self.nodes += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"nests deeper than {MAX_DEPTH}", self.place(self.at))
        if self.nodes > MAX_NODES:
            raise Malformed(f"holds more than {MAX_NODES} values", self.place(self.at))
        match self.text[self.at : self.at + 1]:
            case "{":
                return self.mapping(depth)
            case "[":
                return self.sequence(depth)
            case '"':
                return self.string()
        place = self.place(self.at)
        found = _BARE.match(self.text, self.at)
        if found is None:
            raise self.wrong("a value")
        self.at = found.end()
        return Scalar(place, found[0], False)

    def string(self) -> Scalar:
        place = self.place(self.at)
        try:
            text, self.at = scanstring(self.text, self.at + 1, True)
        except JSONDecodeError as error:
            raise Malformed(f"is no JSON: {error.msg}", place) from None
        if any("\ud800" <= char <= "\udfff" for char in text):
            raise Malformed("has half of a surrogate pair", place)
        return Scalar(place, text, True)

    def mapping(self, depth: int) -> Mapping:
        place = self.place(self.at)
        items: list[tuple[Scalar, Node]] = []
        while self.another("}", first=not items):
            if self.text[self.at : self.at + 1] != '"':
                raise self.wrong("a field's name in quotes")
            key = self.string()
            self.space()
            if self.text[self.at : self.at + 1] != ":":
                raise self.wrong('":"')
            self.at += 1
            items.append((key, self.node(depth + 1)))
        return Mapping(place, tuple(items))

    def sequence(self, depth: int) -> Sequence:
        place = self.place(self.at)
        items: list[Node] = []
        while self.another("]", first=not items):
            items.append(self.node(depth + 1))
        return Sequence(place, tuple(items))

    def another(self, end: str, *, first: bool) -> bool:
        """Steps over the opening bracket or a comma; False, past it, at the closing one."""
        self.at += first
        self.space()
        char = self.text[self.at : self.at + 1]
        if char == end:
            self.at += 1
            return False
        if not first:
            if char != ",":
                raise self.wrong(f'"," or "{end}"')
            self.at += 1
            self.space()
        return True
