"""JSON: RFC 8259 with places."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.schema.json_text import read
from policies.schema.tree import Malformed, Mapping, Node, Scalar, Sequence

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)


def plain(node: Node) -> object:
    match node:
        case Mapping():
            return {key.text: plain(value) for key, value in node.items}
        case Sequence():
            return [plain(item) for item in node.items]
        case Scalar(_, text, True):
            return text
        case Scalar(_, text, _):
            return json.loads(text)


@given(VALUES)
def test_reads_what_any_writer_of_json_writes(value: object) -> None:
    assert plain(read(json.dumps(value))) == value
    assert plain(read(json.dumps(value, indent="\t", ensure_ascii=False))) == value


def test_places() -> None:
    root = read('{\n\t"a": [1,\n  {"b\\/": "\\u00e9\\ud83d\\ude00"}]\n}')
    assert isinstance(root, Mapping)
    key, several = root.items[0]
    assert (key.place.line, key.place.column) == (2, 2)
    assert isinstance(several, Sequence)
    below = several.items[1]
    assert isinstance(below, Mapping)
    inner, text = below.items[0]
    assert (inner.text, inner.place.line, inner.place.column) == ("b/", 3, 4)
    assert isinstance(text, Scalar)
    assert text.text == "é😀"


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("", "a value expected, found its end", 1),
        ("{", "a field's name in quotes expected, found its end", 1),
        ('{"a" 1}', '":" expected', 1),
        ('{"a": 1,}', "a field's name in quotes", 1),
        ("[1\n2]", '"," or "]" expected', 2),
        ("[1,]", "a value expected", 1),
        ("[1] 2", "goes on after the end", 1),
        ('{"a": tru}', "a value expected", 1),
        ('"\\x"', "is no JSON", 1),
        ('"a\nb"', "is no JSON", 1),
        ('"\\ud83d"', "surrogate", 1),
        ("[" * 40, "nests deeper", 1),
        ("{'a': 1}", "a field's name in quotes", 1),
    ],
)
def test_refused(text: str, reason: str, line: int) -> None:
    with pytest.raises(Malformed) as caught:
        read(text)
    assert reason in caught.value.reason
    assert caught.value.place is not None
    assert caught.value.place.line == line
