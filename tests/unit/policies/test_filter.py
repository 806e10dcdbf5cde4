"""Filters: read as Consul reads them, evaluated on instances, bad ones with their position."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.filter import MAX_LENGTH, Equal, Fault, In, Not, Selector, Several, holds, parse
from tests.unit.policies.build import instance

ONE = instance(
    "api",
    "b",
    "api-1",
    tags=("v2", "eu"),
    meta={"version": "2", "long.name": "x"},
    node_meta={"zone": "a"},
)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('Service.Meta.version == "2"', True),
        ("Service.Meta.version == 2", True),
        ("Service.Meta.version == `2`", True),
        ('Service.Meta["version"] == "2"', True),
        ('Service.Meta["long.name"] == x', True),
        ("Service.Meta.long.name == x", True),
        ('Service.Meta.version != "1"', True),
        ('Service.Meta.version == "1"', False),
        ('Service.Meta.nothing == ""', False),  # as in Consul: a missing key is equal to nothing
        ('Service.Meta.nothing != "1"', True),
        ('"1" in Service.Meta.nothing', False),
        ('"1" not in Service.Meta.nothing', True),
        ('"v2" in Service.Tags', True),
        ("v2 in Service.Tags", True),
        ('"v" in Service.Tags', False),
        ('"v3" not in Service.Tags', True),
        ('"version" in Service.Meta', True),
        ('"zone" in Node.Meta', True),
        ('"ers" in Service.Meta.version', False),
        ('"pi" in Service.ID', True),  # part of a text
        ("Service.ID == api-1", True),
        ("Service.Service == api", True),
        ("Service.Address == 10.0.0.1", True),
        ("Service.Port == 8080", True),
        ("Node.Node == b", True),
        ("Node.Meta.zone == a", True),
        ("not Node.Meta.zone == a", False),
        ("not not Node.Meta.zone == a", True),
        ("Node.Meta.zone == x or Service.ID == api-1", True),
        ("Node.Meta.zone == x and Service.ID == api-1", False),
        ("Node.Meta.zone == x and Service.ID == y or Service.ID == api-1", True),  # and binds tighter
        ("Node.Meta.zone == x and (Service.ID == y or Service.ID == api-1)", False),
        ("not Node.Meta.zone == x and Service.ID == api-1", True),
        ("(((Service.ID == api-1)))", True),
        ('  Service.Meta.version=="2"  ', True),
        ('"and" in Service.Tags', False),
    ],
)
def test_holds(text: str, expected: bool) -> None:
    parsed = parse(text)
    assert not isinstance(parsed, Fault), parsed
    assert holds(parsed, ONE) is expected


def test_the_tree() -> None:
    zone, tags = Selector("Node.Meta", "zone"), Selector("Service.Tags")
    assert parse('Node.Meta.zone != "a" and not ("x\\"\\\\" in Service.Tags or y not in Service.Tags)') == Several(
        "and",
        (Not(Equal(zone, "a")), Not(Several("or", (In(tags, 'x"\\'), Not(In(tags, "y")))))),
    )
    assert str(zone) == "Node.Meta.zone"
    assert str(tags) == "Service.Tags"


@pytest.mark.parametrize(
    ("text", "reason", "at"),
    [
        ("", "ends too early", 0),
        ("Service.ID", "ends too early", 10),
        ("Service.ID ==", "ends too early", 13),
        ("Service.ID = a", "cannot read", 11),
        ("Service.ID == a b", '"b" is out of place', 16),
        ("Service.ID == and", "stands where", 14),
        ("Service.ID == a and", "ends too early", 19),
        ("Service.ID == a )", "out of place", 16),
        ("(Service.ID == a", "( is not closed", 16),
        ("(Service.ID == a b)", "( is not closed", 17),
        ("Service.Mta.x == a", "is no selector", 0),
        ("Service.Meta. == a", "is no selector", 0),
        ('"a" == Service.ID', "is a value where a selector", 0),
        ('a in "b"', "is a value where a selector", 5),
        ("Service.Tags == a", "is no single value", 0),
        ("Service.Meta == a", "is no single value", 0),
        ("Service.ID matches a", "matches is not supported yet", 11),
        ("Service.Tags contains a", "contains is not supported yet", 13),
        ("Service.Meta is empty", "is is not supported yet", 13),
        ("Service.ID not matches a", "matches is not supported yet", 15),
        ("Service.ID not", "is no operator", 11),
        ("Service.ID like a", '"like" is no operator', 11),
        ('Service.ID "==" a', "is no operator", 11),
        ("Checks.Status == passing", "not supported yet", 0),
        ("Node.Datacenter == dc1", "not supported yet", 0),
        ('Service.ID["x"] == a', "only for map keys", 10),
        ("Service.Meta[x] == a", "only for map keys", 12),
        ('Service.Meta["x" == a', "only for map keys", 12),
        ('["x"] == a', "only for map keys", 0),
        ('"open', "cannot read", 0),
        ("(" * 40, "nests deeper", 32),
        ("not " * 40 + "Service.ID == a", "nests deeper", 128),
        ("a" * (MAX_LENGTH + 1), "longer than", MAX_LENGTH),
    ],
)
def test_bad_filters_say_where(text: str, reason: str, at: int) -> None:
    fault = parse(text)
    assert isinstance(fault, Fault), fault
    assert reason in fault.reason
    assert fault.at == at


def test_a_selector_is_named_when_nearly_right() -> None:
    fault = parse("Service.Tag == a")
    assert isinstance(fault, Fault)
    assert fault.hint == "did you mean Service.Tags?"


WORDS = st.sampled_from(
    ["and", "or", "not", "in", "(", ")", "==", "!=", '"a"', "a", "Service.Tags", "Service.Meta.x", "[", '"', "`", " "]
)


@given(st.one_of(st.text(max_size=60), st.lists(WORDS, max_size=15).map(" ".join)))
def test_no_text_raises(text: str) -> None:
    parsed = parse(text)
    if isinstance(parsed, Fault):
        assert 0 <= parsed.at <= len(text)
    else:
        assert holds(parsed, ONE) in (True, False)
