"""Trees: what says nothing, and where a path leads."""

import pytest

from policies.schema.tree import Mapping, Node, Place, Scalar, Sequence, empty, locate
from policies.schema.yaml_text import read


def tree(text: str) -> Node:
    root = read(text)
    assert root is not None
    return root


@pytest.mark.parametrize("text", ["~", "null", '""', "0", "false", "{}", "[]", "{a: {b: ''}}"])
def test_says_nothing(text: str) -> None:
    assert empty(tree(text))


@pytest.mark.parametrize("text", ["1", '"0"', '"false"', "[0]", "{a: {b: x}}"])
def test_says_something(text: str) -> None:
    assert not empty(tree(text))


def test_null_is_only_a_plain_word() -> None:
    assert Scalar(Place(1, 1), "null", False).null
    assert not Scalar(Place(1, 1), "null", True).null


@pytest.mark.parametrize(
    ("path", "place"),
    [
        ("", Place(1, 1)),
        ("Routes", Place(2, 3)),
        ("routes[1].match", Place(3, 12)),
        ("Routes[1].Match.HTTP.Header[3]", Place(3, 12)),  # as deep as it goes
        ("Routes[9]", Place(2, 3)),
        ("Else", Place(1, 1)),
    ],
)
def test_a_path_leads_to_its_place(path: str, place: Place) -> None:
    root = tree("Routes:\n  - a\n  - Match: {}\n")
    assert isinstance(root, Mapping)
    assert isinstance(root.items[0][1], Sequence)
    assert locate(root, path) == place
