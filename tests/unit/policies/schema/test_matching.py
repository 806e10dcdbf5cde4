"""Conditions on requests: paths in the form in which they are compared, expressions that the proxy takes."""

import pytest

from policies.schema import matching
from policies.schema.matching import HeaderMatch, HttpMatch, QueryMatch
from policies.schema.shape import Reading, Refused
from policies.schema.tree import Place, Scalar
from policies.schema.yaml_text import read


def word(text: str) -> Scalar:
    return Scalar(Place(1, 1), text, True)


@pytest.mark.parametrize("path", ["/", "/a/b", "/a.b/..c", "/a%20b", "/a;v=1/b@x", "/a/"])
def test_paths_in_normal_form(path: str) -> None:
    assert matching.path(word(path)) == path


@pytest.mark.parametrize(
    "path",
    [
        "a",
        "",
        "/a?b",
        "/a#b",
        "/a//b",
        "/a/./b",
        "/a/..",
        "/a/..;x/b",
        "/a/.%3Bx",
        "/a%2fb",
        "/a%2Fb",
        "/%41",
        "/a%2",
        "/a%zz",
        "/a b",
        "/é",
        "/a\\b",
        "/%00",
        "/%5C",
        "/%7E",
        "/a%c3",
    ],
)
def test_other_spellings_would_never_match(path: str) -> None:
    with pytest.raises(Refused):
        matching.path(word(path))


def test_expressions() -> None:
    assert matching.pattern(word("a+")) == "a+"
    with pytest.raises(Refused, match="look-around"):
        matching.pattern(word("(?=a)"))


def test_names_are_not_empty() -> None:
    assert matching.nonempty(word("v")) == "v"
    with pytest.raises(Refused):
        matching.nonempty(word(""))


def test_a_match_with_everything() -> None:
    state = Reading("kind", "name")
    root = read(
        """
PathPrefix: /a
PathExact: ""
CaseInsensitive: true
Header:
  - {Name: X-A, Present: true, Invert: true}
  - {name: x-b, contains: c}
QueryParam: [{Name: q, Regex: "a.*"}]
Methods: [get]
"""
    )
    assert root is not None
    assert matching.HTTP(state, root, "") == HttpMatch(
        path_prefix="/a",
        case_insensitive=True,
        header=(HeaderMatch(name="x-a", present=True, invert=True), HeaderMatch(name="x-b", contains="c")),
        query_param=(QueryMatch(name="q", regex="a.*"),),
        methods=("GET",),
    )
    assert state.problems == []


def test_paths_and_everything() -> None:
    assert HttpMatch(case_insensitive=True).everything
    assert not HttpMatch(methods=("GET",)).everything
    assert HttpMatch(path_exact="/a", path_regex="b").paths == ("PathExact", "PathRegex")


def test_permissions_have_fewer_conditions() -> None:
    state = Reading("kind", "name")
    root = read("QueryParam: [{Name: q, Exact: a}]")
    assert root is not None
    matching.PERMISSION_HTTP(state, root, "HTTP")
    assert [problem.reason for problem in state.problems] == ["QueryParam is not supported yet"]
