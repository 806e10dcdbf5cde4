"""Router to splitter to resolver: legs, their weights, and what cannot be served."""

from fractions import Fraction

from hypothesis import given
from hypothesis import strategies as st

from policies.chain import DEFAULT_ROUTE, MAX_STEPS, compiled_edits, legs, merged, rounded
from policies.compiled import HeaderEdit, Leg
from policies.context import Context
from policies.schema.headers import HeaderEdits
from tests.unit.policies.build import HTTP, endpoint, instance, view

SUBSETS = "Subsets: {v1: {}, v2: {}}"


def unfolded(*said: tuple[str, str, str], subset: str | None = None, **fields: object) -> tuple[Leg, ...]:
    return legs(Context(view(*said, **fields)), "api", "api", subset, DEFAULT_ROUTE)


def test_a_service_alone_is_one_leg() -> None:
    assert unfolded() == (Leg(service="api"),)


def test_the_default_subset() -> None:
    (leg,) = unfolded(("service-resolver", "api", f"DefaultSubset: v1\n{SUBSETS}"))
    assert (leg.subset, leg.broken) == ("v1", None)


def test_a_split() -> None:
    split = "Splits: [{Weight: 90, ServiceSubset: v1, RequestHeaders: {Set: {a: b}}}, {Weight: 10, ServiceSubset: v2}]"
    found = unfolded(("service-splitter", "api", split), ("service-resolver", "api", SUBSETS))
    assert found == (
        Leg(
            service="api",
            subset="v1",
            weight=9000,
            request_headers=HeaderEdit(set=(("a", "b"),)),
            origin="service-splitter/api#Splits[0]@1",
        ),
        Leg(service="api", subset="v2", weight=1000, origin="service-splitter/api#Splits[1]@1"),
    )


def test_a_named_subset_is_not_split_again() -> None:
    split = "Splits: [{Weight: 100, Service: other}]"
    said = ("service-splitter", "api", split), ("service-resolver", "api", SUBSETS)
    assert [(leg.service, leg.subset) for leg in unfolded(*said, subset="v2")] == [("api", "v2")]
    assert [leg.service for leg in unfolded(*said)] == ["other"]


def test_a_missing_subset_breaks_its_leg_alone() -> None:
    split = "Splits: [{Weight: 50, ServiceSubset: v1}, {Weight: 50, ServiceSubset: v9}]"
    context = Context(view(("service-splitter", "api", split), ("service-resolver", "api", SUBSETS)))
    one, other = legs(context, "api", "api", None, DEFAULT_ROUTE)
    assert one.broken is None
    assert other.broken == "service-resolver/api has no subset v9"
    (problem,) = context.problems
    assert (problem.kind, problem.name, problem.path) == ("service-splitter", "api", "Splits[1]")


def test_a_side_without_weight_is_checked_and_left_out() -> None:
    split = "Splits: [{Weight: 100}, {Weight: 0, ServiceSubset: v9}]"
    context = Context(view(("service-splitter", "api", split)))
    assert [leg.weight for leg in legs(context, "api", "api", None, DEFAULT_ROUTE)] == [10_000]
    assert len(context.problems) == 1


def test_splitters_of_the_sides_are_unfolded() -> None:
    found = unfolded(
        (
            "service-splitter",
            "api",
            "Splits: [{Weight: 50}, {Weight: 50, Service: next, RequestHeaders: {Set: {a: o}}}]",
        ),
        (
            "service-splitter",
            "next",
            "Splits: [{Weight: 33.33, RequestHeaders: {Set: {a: i}}}, {Weight: 66.67, Service: last}]",
        ),
    )
    assert [(leg.service, leg.weight, leg.origin) for leg in found] == [
        ("api", 5000, "service-splitter/api#Splits[0]@1"),
        ("next", 1667, "service-splitter/next#Splits[0]@2"),
        ("last", 3333, "service-splitter/next#Splits[1]@2"),
    ]
    assert [leg.request_headers for leg in found] == [
        None,
        HeaderEdit(set=(("a", "i"),)),
        HeaderEdit(set=(("a", "o"),)),
    ]


def test_a_circle_of_splitters_breaks_its_leg() -> None:
    found = unfolded(
        ("service-splitter", "api", "Splits: [{Weight: 40}, {Weight: 60, Service: b}]"),
        ("service-splitter", "b", "Splits: [{Weight: 100, Service: api}]"),
    )
    assert [(leg.weight, leg.broken) for leg in found] == [
        (4000, None),
        (6000, "splitters form a circle: api -> b -> api"),
    ]


def test_nested_splitters_cannot_explode() -> None:
    """Six splitters of ten sides, each leading to the next layer, would be a million legs."""
    said = [("service-splitter", "api", _sides(0))]
    said += [("service-splitter", f"s{layer}-{i}", _sides(layer + 1)) for layer in range(6) for i in range(10)]
    context = Context(view(*said))
    (leg,) = legs(context, "api", "api", None, DEFAULT_ROUTE)
    assert leg.broken == "splitters unfold into too many sides"
    assert MAX_STEPS >= 1000


def _sides(layer: int) -> str:
    return "Splits: [" + ", ".join(f"{{Weight: 10, Service: s{layer}-{i}}}" for i in range(10)) + "]"


def test_a_side_that_speaks_otherwise_breaks() -> None:
    split = "Splits: [{Weight: 50}, {Weight: 50, Service: raw}]"
    said = ("service-defaults", "api", HTTP), ("service-splitter", "api", split)
    assert [leg.broken for leg in unfolded(*said)] == [None, None]  # nobody knows yet what raw speaks
    endpoints = {"raw": (endpoint(instance("raw")),)}
    assert [leg.broken for leg in unfolded(*said, endpoints=endpoints)] == [None, "api speaks http, but raw tcp"]


@given(st.lists(st.integers(1, 10_000), min_size=1, max_size=50))
def test_rounded_weights_sum_to_the_whole(shares: list[int]) -> None:
    fractions = [Fraction(share, sum(shares)) for share in shares]
    weights = rounded(fractions)
    assert sum(weights) == 10_000
    assert all(abs(weight - fraction * 10_000) < 1 for weight, fraction in zip(weights, fractions, strict=True))


def test_edits_of_nested_sides() -> None:
    outer = HeaderEdits(add=(("a", "1"),), set=(("b", "2"), ("c", "3")), remove=("x",))
    inner = HeaderEdits(add=(("a", "9"),), set=(("b", "8"),), remove=("w",))
    assert merged(outer, inner) == HeaderEdits(add=(("a", "9"),), set=(("b", "8"), ("c", "3")), remove=("w", "x"))
    assert merged(None, inner) == merged(inner, None) == inner
    assert merged(None, None) is None
    assert compiled_edits(HeaderEdits()) is None
    assert compiled_edits(inner) == HeaderEdit(add=(("a", "9"),), set=(("b", "8"),), remove=("w",))
