"""YAML to a tree, from the parser's events: nothing is constructed, no alias is followed, depth is bounded."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import yaml

from policies.problem import shown
from policies.schema.tree import MAX_DEPTH, MAX_NODES, Malformed, Mapping, Node, Place, Scalar, Sequence

_LOADER: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # the C reader is not in every build of the package


def read(text: str) -> Node | None:
    """The one value of the text, None when it holds none. Raises Malformed."""
    try:
        return _Reader(yaml.parse(text, Loader=_LOADER)).stream()
    except yaml.MarkedYAMLError as error:
        raise _malformed(text, error) from None
    except (yaml.YAMLError, ValueError) as error:  # ValueError: \U escapes beyond Unicode, in the pure reader
        raise Malformed(f"is no YAML: {shown(str(error).splitlines()[0])}") from None


def _malformed(text: str, error: yaml.MarkedYAMLError) -> Malformed:
    mark = error.problem_mark or error.context_mark
    place = Place(mark.line + 1, mark.column + 1) if mark else None
    reason = error.problem or error.context or "cannot be read"
    hint = "indent with spaces, not tabs" if mark and text[mark.index : mark.index + 1] == "\t" else ""
    return Malformed(f"is no YAML: {reason}", place, hint)


@dataclass
class _Reader:
    events: Iterator[Any]
    nodes: int = 0

    def stream(self) -> Node | None:
        root: Node | None = None
        for event in self.events:
            match event:
                case yaml.DocumentStartEvent() if root is not None:
                    raise Malformed("holds more than one document", _place(event), "one key holds one document")
                case yaml.StreamStartEvent() | yaml.DocumentStartEvent() | yaml.DocumentEndEvent():
                    pass
                case yaml.StreamEndEvent():
                    break
                case _:
                    root = self.node(event, 0)
        return root

    def node(self, event: Any, depth: int) -> Node:
        self.nodes += 1
        if depth > MAX_DEPTH:
            raise Malformed(f"nests deeper than {MAX_DEPTH}", _place(event))
        if self.nodes > MAX_NODES:
            raise Malformed(f"holds more than {MAX_NODES} values", _place(event))
        if isinstance(event, yaml.AliasEvent):
            raise Malformed("aliases (*name) are not read", _place(event), "write the value out")
        if event.tag is not None:
            raise Malformed(f"tags ({shown(event.tag)}) are not read", _place(event), "the field decides the type")
        match event:
            case yaml.MappingStartEvent():
                return self.mapping(event, depth)
            case yaml.SequenceStartEvent():
                return self.sequence(event, depth)
            case _:
                return Scalar(_place(event), event.value, not event.implicit[0])

    def mapping(self, start: Any, depth: int) -> Mapping:
        items: list[tuple[Scalar, Node]] = []
        while not isinstance(event := next(self.events), yaml.MappingEndEvent):
            key = self.node(event, depth + 1)
            if not isinstance(key, Scalar):
                raise Malformed("a field's name is a list or a mapping", key.place)
            items.append((key, self.node(next(self.events), depth + 1)))
        return Mapping(_place(start), tuple(items))

    def sequence(self, start: Any, depth: int) -> Sequence:
        items: list[Node] = []
        while not isinstance(event := next(self.events), yaml.SequenceEndEvent):
            items.append(self.node(event, depth + 1))
        return Sequence(_place(start), tuple(items))


def _place(event: Any) -> Place:
    return Place(event.start_mark.line + 1, event.start_mark.column + 1)
