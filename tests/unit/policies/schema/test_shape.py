"""Shapes: known fields in any spelling, strangers named with what was meant, nothing raised."""

from dataclasses import dataclass, field

import pytest

from policies.schema import values
from policies.schema.shape import MAX_ITEMS, MAX_PROBLEMS, Field, Reading, Shape, list_of, map_of, scalar
from policies.schema.yaml_text import read


@dataclass(frozen=True, kw_only=True)
class Thing:
    path_prefix: str | None = None
    wait_ms: int | None = None
    several: tuple[int, ...] = ()
    named: dict[str, int] = field(default_factory=dict)


NUMBER = scalar(values.whole(0, 10))
THING = Shape(
    Thing,
    (
        Field("PathPrefix", "path_prefix", scalar(values.string)),
        Field("Wait", "wait_ms", scalar(values.duration)),
        Field("WaitMs", "wait_ms", scalar(values.milliseconds)),
        Field("Several", "several", list_of(NUMBER)),
        Field("Named", "named", map_of(values.subset_name, NUMBER)),
    ),
    later=("Mirrors",),
    dropped=("Description",),
    fixed=(("Type", "consul"),),
)
NEEDY = Shape(Thing, (Field("PathPrefix", "path_prefix", scalar(values.string), required=True),))


def reading(text: str, shape: Shape = THING) -> tuple[object, list[str]]:
    state = Reading("kind", "name")
    root = read(text)
    assert root is not None
    value = shape(state, root, "")
    return value, [str(problem).removeprefix("kind/name:") for problem in state.problems]


def test_both_spellings_are_read() -> None:
    expected = Thing(path_prefix="/a", wait_ms=250, several=(1, 2), named={"v_1": 3})
    assert reading("PathPrefix: /a\nWaitMs: 250\nSeveral: [1, 2]\nNamed: {v_1: 3}") == (expected, [])
    assert reading("path_prefix: /a\nwait: 250ms\nseveral: [1, 2]\nnamed: {v_1: 3}") == (expected, [])


def test_null_is_as_if_left_out() -> None:
    assert reading("PathPrefix: ~\nSeveral: null\n") == (Thing(), [])


def test_unknown_fields_name_the_nearest_known() -> None:
    _, problems = reading("path_prefx: /a")
    assert problems == ['1:1: unknown field "path_prefx" (did you mean PathPrefix?)']
    _, problems = reading("Mirors: []")
    assert problems == ['1:1: unknown field "Mirors" (did you mean Mirrors?)']


def test_later_fields_are_refused_by_name_unless_they_say_nothing() -> None:
    assert reading("mirrors: []") == (Thing(), [])
    _, problems = reading("PathPrefix: /a\nmirrors: [{Service: x}]")
    assert problems == ["2:1: Mirrors: Mirrors is not supported yet (leave it out)"]


def test_dropped_fields_may_say_anything() -> None:
    assert reading("Description: [a, {b: c}]") == (Thing(), [])


def test_fixed_fields_have_one_value() -> None:
    assert reading("Type: consul\nNamespace: default\nPartition: ''") == (Thing(), [])
    _, problems = reading("Namespace: shop\nType: [x]")
    assert problems == [
        '1:12: Namespace: "shop" is not supported yet (only "default", or leave it out)',
        '2:7: Type: a list is not supported yet (only "consul", or leave it out)',
    ]


def test_one_value_from_two_fields_is_a_contradiction() -> None:
    _, problems = reading("Wait: 1s\nWaitMs: 5")
    assert problems == ['2:1: WaitMs: is set twice ("Wait" and "WaitMs")']
    _, problems = reading("Wait: 1s\nwait: 2s\nX: 1\nx: 2")
    assert problems[0] == '2:1: wait: is set twice ("Wait" and "wait")'
    assert problems[-1] == '4:1: x: is set twice ("X" and "x")'
    _, problems = reading("Named: {a: 1, a: 2}")
    assert problems == ["1:15: Named.a: is set twice"]


def test_wrong_kinds_of_values() -> None:
    _, problems = reading("PathPrefix: [a]\nSeveral: 3\nNamed: [x]\n")
    assert problems == [
        "1:13: PathPrefix: must be a single value, is a list",
        '2:10: Several: must be a list, is "3"',
        "3:8: Named: must be a mapping, is a list",
    ]
    _, problems = reading("[1]")
    assert problems == ["1:1: must be a mapping with fields, is a list"]
    _, problems = reading("Several: [{a: b}, 11]\nNamed: {'a b': 1}")
    assert problems == [
        "1:11: Several[0]: must be a single value, is a mapping",
        '1:19: Several[1]: must be a whole number from 0 to 10, is "11"',
        '2:9: Named: "a b" is no subset name (1 to 128 of [A-Za-z0-9._-])',
    ]


def test_required_fields() -> None:
    _, problems = reading("Several: [1]\nPathPrefix: ~", NEEDY)
    assert problems[-1] == "1:1: PathPrefix: is missing"


@pytest.mark.parametrize(
    "text",
    [
        "\n".join(f"unknown{i}: 1" for i in range(500)),
        f"Several: [{'x, ' * 500}]",
        "Named: {" + ", ".join(f"a{i}: x" for i in range(500)) + "}",
    ],
)
def test_problems_are_bounded_and_reading_ends_with_them(text: str) -> None:
    _, problems = reading(text)
    assert len(problems) == MAX_PROBLEMS


def test_lists_are_bounded() -> None:
    _, problems = reading(f"Several: [{'1, ' * (MAX_ITEMS + 1)}]")
    assert problems == [f"1:10: Several: has {MAX_ITEMS + 1} items (at most {MAX_ITEMS})"]
