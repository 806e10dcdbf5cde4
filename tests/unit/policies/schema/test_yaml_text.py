"""YAML: values with places; everything that could surprise is refused."""

import pytest

from policies.schema.tree import Malformed, Mapping, Scalar, Sequence
from policies.schema.yaml_text import read


def test_values_keep_their_text_and_place() -> None:
    root = read('a: 1\nb:\n  - "1"\n  - yes\n')
    assert isinstance(root, Mapping)
    (_, one), (_, several) = root.items
    assert isinstance(one, Scalar)
    assert isinstance(several, Sequence)
    assert (one.text, one.quoted, one.place.line, one.place.column) == ("1", False, 1, 4)
    assert [(item.text, item.quoted, item.place.line) for item in several.items if isinstance(item, Scalar)] == [
        ("1", True, 3),
        ("yes", False, 4),  # a word, not true: the field decides
    ]


def test_duplicate_keys_are_kept_for_the_schema_to_report() -> None:
    root = read("a: 1\na: 2\n")
    assert isinstance(root, Mapping)
    assert [key.place.line for key, _ in root.items] == [1, 2]


def test_nothing_is_none() -> None:
    assert read("") is None
    assert read("# only a comment\n") is None


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("a: &x 1\nb: *x\n", "aliases", 2),
        ("a: !!python/object:os.system {}\n", "tags", 1),
        ("a: !!binary aGk=\n", "tags", 1),
        ("a: 1\n---\nb: 2\n", "more than one document", 2),
        ("? [a]\n: 1\n", "name is a list", 1),
        ("a:\n\t- 1\n", "is no YAML", 2),
        ("a: [1\n", "is no YAML", 2),
        ("a: b: c\n", "is no YAML", 1),
        ("[" * 40, "nests deeper", 1),
    ],
)
def test_refused(text: str, reason: str, line: int) -> None:
    with pytest.raises(Malformed) as caught:
        read(text)
    assert reason in caught.value.reason
    assert caught.value.place is not None
    assert caught.value.place.line == line


def test_tabs_are_explained() -> None:
    with pytest.raises(Malformed) as caught:
        read("a:\n\tb: 1\n")
    assert "spaces" in caught.value.hint


def test_control_characters_are_no_yaml() -> None:
    with pytest.raises(Malformed, match="is no YAML"):
        read("a: \x00\n")


def test_billion_laughs_ends_at_the_first_alias() -> None:
    lines = ["a0: &a0 [x, x]"] + [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    with pytest.raises(Malformed, match="aliases"):
        read("\n".join(lines))
