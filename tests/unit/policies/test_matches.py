"""Conditions in the proxy's form."""

from policies.compiled import HeaderMatch, Match, QueryMatch
from policies.matches import compiled_match
from policies.schema import matching


def test_no_condition_is_none() -> None:
    assert compiled_match(None) is None
    assert compiled_match(matching.HttpMatch(case_insensitive=True)) is None


def test_every_condition_is_carried() -> None:
    said = matching.HttpMatch(
        path_regex="/a.*",
        case_insensitive=True,
        header=(
            matching.HeaderMatch(name="a", present=True, invert=True),
            matching.HeaderMatch(name="b", exact="1"),
            matching.HeaderMatch(name="c", prefix="2"),
            matching.HeaderMatch(name="d", suffix="3"),
            matching.HeaderMatch(name="e", contains="4"),
            matching.HeaderMatch(name="f", regex="5"),
        ),
        query_param=(
            matching.QueryMatch(name="q", exact="1"),
            matching.QueryMatch(name="r", regex="2"),
            matching.QueryMatch(name="s", present=True),
        ),
        methods=("POST", "GET"),
    )
    assert compiled_match(said) == Match(
        path_regex="/a.*",
        case_insensitive=True,
        headers=(
            HeaderMatch(name="a", present=True, invert=True),
            HeaderMatch(name="b", exact="1"),
            HeaderMatch(name="c", prefix="2"),
            HeaderMatch(name="d", suffix="3"),
            HeaderMatch(name="e", contains="4"),
            HeaderMatch(name="f", regex="5"),
        ),
        query=(
            QueryMatch(name="q", exact="1"),
            QueryMatch(name="r", regex="2"),
            QueryMatch(name="s", present=True),
        ),
        methods=("GET", "POST"),
    )
    assert compiled_match(matching.HttpMatch(path_exact="/a")) == Match(path_exact="/a")
    assert compiled_match(matching.HttpMatch(path_prefix="/a")) == Match(path_prefix="/a")
