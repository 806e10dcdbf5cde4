"""Text to a document, or to Problems. Nothing here raises for what somebody wrote.

A document is YAML or JSON, UTF-8, at most 256 KB; CamelCase and snake_case are both read. The schema of each kind is
in `policies.schema`; what holds between a document's fields is in `policies.validate`.
"""

import re
from collections.abc import Mapping as MappingOf
from dataclasses import dataclass, replace
from typing import Any, NamedTuple, cast

from policies import validate
from policies.problem import Problem, did_you_mean, plain, shown
from policies.schema import json_text, yaml_text
from policies.schema.kinds import BOOKKEEPING, KINDS, LATER, AnyDocument
from policies.schema.shape import Reading, Shape, described
from policies.schema.tree import Malformed, Mapping, Node, Place, Scalar, empty, locate
from registry import keys

MAX_BYTES = 256 * 1024
MAX_FILE_BYTES = 16 * MAX_BYTES
MAX_FILE_DOCUMENTS = 1000
# YAML's own braces (`{Protocol: http}`) have names without quotes. JSON is never read as YAML: half a document is one.
_JSON = re.compile(r'\s*\{\s*["}]')


@dataclass(frozen=True)
class Parsed:
    """`document` None: refused, and `problems` say why."""

    document: AnyDocument | None
    problems: tuple[Problem, ...] = ()


class FileDocument(NamedTuple):
    """One document of a file; `line`: where its text begins."""

    kind: str
    name: str
    text: bytes
    line: int


@dataclass(frozen=True)
class ParsedFile:
    """`documents` are cut out, not yet parsed: what is stored is what the author wrote."""

    documents: tuple[FileDocument, ...]
    problems: tuple[Problem, ...] = ()


def parse(kind: str, name: str, text: bytes, *, version: int, key: str = "", first_line: int = 1) -> Parsed:
    """Read the document stored under `kind` and `name`.

    `key` is where Problems say they were found: a key or a file's name. Source of the kinds: `kv.md`, Consul's
    configuration entries.
    """
    reading = Reading(kind, name, file=key, first_line=first_line)
    shape = _shape(reading)
    root = _root(reading, text) if shape is not None else None
    if shape is None or root is None:
        return Parsed(None, tuple(reading.problems))
    built = _named(shape, name, version)(reading, _body(reading, root), "")
    if reading.problems:
        return Parsed(None, tuple(reading.problems))
    document = cast("AnyDocument", built)
    for fault in validate.faults(document):
        reading.note(locate(root, fault.path), fault.path, fault.reason, fault.hint)
    return Parsed(None if reading.problems else document, tuple(reading.problems))


def _shape(reading: Reading) -> Shape | None:
    """The schema of the kind, after a look at kind and name."""
    shape = KINDS.get(reading.kind)
    if reading.kind in LATER:
        reading.note(None, "Kind", f"kind {reading.kind} is not supported yet")
    elif shape is None:
        hint = did_you_mean(reading.kind, (*KINDS, *LATER))
        reading.note(None, "Kind", f"unknown kind {shown(reading.kind)}", hint)
    elif keys.parse_policy(keys.policy(reading.kind, reading.name)) != (reading.kind, reading.name):
        reading.note(None, "Name", f"{shown(reading.name)} is no name of a document", "a service, prefix* or *")
        return None
    return shape


def _named(shape: Shape, name: str, version: int) -> Shape:
    make: Any = shape.make

    def build(**fields: object) -> object:
        return make(name=name, version=version, **fields)

    return replace(shape, make=build)


def _root(reading: Reading, text: bytes) -> Mapping | None:
    try:
        root = _tree(text)
    except Malformed as malformed:
        reading.note(malformed.place, "", malformed.reason, malformed.hint)
        return None
    if root is None or (isinstance(root, Scalar) and root.null):
        reading.note(Place(1, 1), "", "is empty", "delete the key to go back to the default")
        return None
    if not isinstance(root, Mapping):
        reading.note(root.place, "", f"must be a mapping with fields, is {described(root)}")
        return None
    return root


def _tree(data: bytes) -> Node | None:
    if len(data) > MAX_BYTES:
        raise Malformed(f"is {len(data)} bytes long", None, f"at most {MAX_BYTES}")
    text = _decoded(data)
    return json_text.read(text) if _JSON.match(text) else yaml_text.read(text)


def _decoded(data: bytes) -> str:
    try:
        return data.decode("utf-8").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        before = data[: error.start]
        place = Place(before.count(b"\n") + 1, error.start - before.rfind(b"\n"))
        raise Malformed("is not UTF-8", place) from None


def _body(reading: Reading, root: Mapping) -> Mapping:
    """Without `Kind` and `Name`, which must agree with the key, and without Consul's book-keeping."""
    own = {"kind": reading.kind, "name": reading.name}
    dropped = {plain(name) for name in BOOKKEEPING}
    items = []
    for field, value in root.items:
        spelled = plain(field.text)
        if spelled in own:
            _agrees(reading, field, value, own[spelled])
        elif spelled not in dropped:
            items.append((field, value))
    return Mapping(root.place, tuple(items))


def _agrees(reading: Reading, field: Scalar, value: Node, expected: str) -> None:
    text = value.text if isinstance(value, Scalar) else described(value)
    if not empty(value) and text != expected:
        reading.note(value.place, field.text, f"{shown(text)} contradicts the key", f"{expected}, or leave it out")


def parse_file(text: bytes, *, file: str = "") -> ParsedFile:
    """Cut a file of one or more documents (`---` between them) into its documents, each named by `Kind` and `Name`."""
    reading = Reading("", "", file=file)
    if len(text) > MAX_FILE_BYTES:
        reading.note(None, "", f"is {len(text)} bytes long", f"at most {MAX_FILE_BYTES}")
        return ParsedFile((), tuple(reading.problems))
    parts = _parts(text)
    if len(parts) > MAX_FILE_DOCUMENTS:
        reading.note(None, "", f"holds {len(parts)} documents", f"at most {MAX_FILE_DOCUMENTS}")
        return ParsedFile((), tuple(reading.problems))
    documents = [_identified(reading, line, part) for line, part in parts]
    found = tuple(document for document in documents if document is not None)
    if not found and not reading.problems:
        reading.note(Place(1, 1), "", "holds no document")
    return ParsedFile(found, tuple(reading.problems))


def _parts(text: bytes) -> list[tuple[int, bytes]]:
    """(first line, text) of each part between lines `---`; parts of comments and blanks alone are left out."""
    parts: list[tuple[int, list[bytes]]] = [(1, [])]
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        if line.rstrip() == b"---" or line.startswith((b"--- ", b"---\t")):
            rest = line[3:].lstrip()
            parts.append((number if rest else number + 1, [rest] if rest else []))
        elif line.rstrip() != b"...":
            parts[-1][1].append(line)
    said = [(first, lines) for first, lines in parts if any(_says(line) for line in lines)]
    return [(first, b"".join(lines)) for first, lines in said]


def _says(line: bytes) -> bool:
    return bool(line.strip()) and not line.lstrip().startswith(b"#")


def _identified(reading: Reading, line: int, part: bytes) -> FileDocument | None:
    here = replace(reading, first_line=line)  # shares the list of problems
    root = _root(here, part)
    if root is None:
        return None
    fields: MappingOf[str, Node] = {plain(key.text): value for key, value in reversed(root.items)}
    kind, name = (_word(fields.get(field)) for field in ("kind", "name"))
    if not kind:
        here.note(root.place, "Kind", "is missing", f"one of {', '.join(KINDS)}")
        return None
    if not name and kind != "mesh":
        here.note(root.place, "Name", "is missing", "the service that the document is about, or *")
        return None
    return FileDocument(kind, name or "mesh", part, line)


def _word(node: Node | None) -> str:
    return node.text if isinstance(node, Scalar) else ""
