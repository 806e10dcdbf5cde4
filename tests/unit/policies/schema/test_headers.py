"""Header edits: no header of the connection, no second line smuggled in a value."""

import pytest

from policies.schema.headers import HEADERS, HeaderEdits
from policies.schema.shape import Reading
from policies.schema.yaml_text import read


def edits(text: str) -> tuple[object, list[str]]:
    state = Reading("kind", "name")
    root = read(text)
    assert root is not None
    value = HEADERS(state, root, "H")
    return value, [problem.reason for problem in state.problems]


def test_edits_are_sorted_by_name() -> None:
    value, problems = edits("Add: {X-B: 2, x-a: one two}\nSet: {x-c: ''}\nRemove: [X-Z, x-d]")
    assert problems == []
    assert value == HeaderEdits(add=(("x-a", "one two"), ("x-b", "2")), set=(("x-c", ""),), remove=("x-d", "x-z"))


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("Set: {Host: a}", "host cannot be edited"),
        ("Add: {Transfer-Encoding: chunked}", "transfer-encoding cannot be edited"),
        ("Add: {Content_Length: 3}", "content_length cannot be edited"),
        ("Set: {X-Meshd-Source: a}", "x-meshd-source cannot be edited"),
        ("Remove: [traceparent]", "traceparent cannot be edited"),
        ("Remove: [connection]", "connection cannot be edited"),
        ('Set: {a: "x\\r\\nb: c"}', "has control characters"),
        ('Set: {a: " x"}', '" x" is no header value'),
        ("Set: {a: é}", '"é" is no header value'),
        ('Set: {"a b": c}', '"a b" is no name that HTTP allows'),
        ("Set: {a: '%DOWNSTREAM_REMOTE_ADDRESS%'}", "variables in header values are not supported yet"),
        ("Set: {a: 'x %REQ(x-b)%'}", "variables in header values are not supported yet"),
        ("Set: {a: 1, A: 2}", 'is set twice ("a" and "A")'),
    ],
)
def test_refused(text: str, reason: str) -> None:
    assert edits(text)[1] == [reason]


def test_a_percent_sign_alone_is_a_value() -> None:
    assert edits("Set: {a: 50% of 100%}")[1] == []
