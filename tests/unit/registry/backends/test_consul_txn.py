"""Operations as a Consul transaction, and what its answer means."""

from typing import Any

import msgspec
import pytest
from consul import base

from registry.backends import consul_txn
from registry.backends.consul_txn import Error, Outcome, Step
from registry.errors import Conflict, Denied, NotFound, TooLarge, Unavailable
from registry.store import Entry, Op

HELD = Entry(key="k", value=b"", version=9, created=1, lease="old")


@pytest.mark.parametrize(
    ("op", "steps"),
    [
        (Op(key="k", value=b"v", flags=3), [Step(verb="set", key="k", value=b"v", flags=3)]),
        (Op(key="k", value=b"v", flags=-1), [Step(verb="set", key="k", value=b"v", flags=2**64 - 1)]),
        (Op(key="k", value=b"v", expect=0), [Step(verb="cas", key="k", value=b"v", index=0)]),
        (Op(key="k", value=b"v", expect=7), [Step(verb="cas", key="k", value=b"v", index=7)]),
        (Op(key="k", value=None), [Step(verb="delete", key="k")]),
        (
            Op(key="k", value=None, expect=7),
            [Step(verb="check-index", key="k", index=7), Step(verb="delete", key="k")],
        ),
        (Op(key="k", value=None, expect=0), [Step(verb="check-not-exists", key="k"), Step(verb="delete", key="k")]),
        (Op(key="k", value=b"v", lease="s"), [Step(verb="lock", key="k", value=b"v", session="s")]),
        (
            Op(key="k", value=b"v", lease="s", expect=0),
            [Step(verb="check-not-exists", key="k"), Step(verb="lock", key="k", value=b"v", session="s")],
        ),
    ],
)
def test_an_operation_in_consuls_verbs(op: Op, steps: list[Step]) -> None:
    assert consul_txn.steps([op], {}) == steps


def test_a_key_is_taken_over_from_another_lease_only_as_it_was_seen() -> None:
    unlock = Step(verb="unlock", key="k", value=b"v", session="old")
    lock = Step(verb="lock", key="k", value=b"v", session="new")
    taken = consul_txn.steps([Op(key="k", value=b"v", lease="new")], {"k": HELD})
    assert taken == [Step(verb="check-index", key="k", index=9), unlock, lock]
    guarded = consul_txn.steps([Op(key="k", value=b"v", lease="new", expect=5)], {"k": HELD})
    assert guarded == [Step(verb="check-index", key="k", index=5), unlock, lock]
    assert consul_txn.steps([Op(key="k", value=b"v", lease="old")], {"k": HELD}) == [
        Step(verb="lock", key="k", value=b"v", session="old")
    ]


def test_64_operations_fit_and_no_more() -> None:
    ops = [Op(key=f"k{n}", value=b"") for n in range(65)]
    assert len(consul_txn.steps(ops[:64], {})) == 64
    with pytest.raises(TooLarge, match="65"):
        consul_txn.steps(ops, {})


def test_values_travel_as_base64() -> None:
    sent = msgspec.json.decode(consul_txn.encode([Step(verb="set", key="k", value=b"\x00\xff")]))
    assert sent == [{"KV": {"Verb": "set", "Key": "k", "Value": "AP8="}}]


def answer(code: int, content: Any, **headers: str) -> base.Response:
    data = content if isinstance(content, bytes) else msgspec.json.encode(content)
    return base.Response(code, {name.replace("_", "-"): v for name, v in headers.items()}, data.decode(), data)


def test_the_index_is_the_servers_word_or_that_of_the_puts() -> None:
    results = {"Results": [{"KV": {"ModifyIndex": 5}}, {"KV": {"ModifyIndex": 7}}], "Errors": None}
    assert consul_txn.read(answer(200, results), deletes=False) == Outcome(7)
    assert consul_txn.read(answer(200, results), deletes=True) == Outcome(None)
    assert consul_txn.read(answer(200, results, X_Consul_Index="9"), deletes=True) == Outcome(9)
    assert consul_txn.read(answer(200, {"Results": [], "Errors": None}), deletes=True) == Outcome(None)


@pytest.mark.parametrize(
    ("code", "content", "error"),
    [
        (403, b"Permission denied", Denied),
        (413, b"too large", TooLarge),
        (500, b"No cluster leader", Unavailable),
        (200, b"<html>", Unavailable),
    ],
)
def test_other_answers_are_errors(code: int, content: bytes, error: type[Exception]) -> None:
    with pytest.raises(error):
        consul_txn.read(answer(code, content), deletes=False)


@pytest.mark.parametrize(
    ("what", "verb", "error"),
    [
        ('failed to set key "k", index is stale', "cas", Conflict),
        ('invalid session "s"', "lock", NotFound),
        ('key "k" exists', "check-not-exists", Conflict),
    ],
)
def test_a_failed_step_is_the_error_of_its_key(what: str, verb: Any, error: type[Exception]) -> None:
    outcome = Outcome(None, (Error(1, what),))
    with pytest.raises(error, match="k: "):
        consul_txn.settle(outcome, [Step(verb="set", key="a"), Step(verb=verb, key="k")])


def test_keys_that_another_lease_holds_are_told_from_other_faults() -> None:
    steps = [Step(verb="lock", key="k"), Step(verb="cas", key="a")]
    locked = Error(0, 'failed to lock key "k", lock is already held')
    assert consul_txn.held(Outcome(None, (locked,)), steps) == ["k"]
    assert consul_txn.held(Outcome(None, (locked, Error(1, "index is stale"))), steps) == []
    assert consul_txn.held(Outcome(7), steps) == []


def test_flags_of_2_63_and_above_are_negative_in_an_entry() -> None:
    assert [consul_txn.signed(n) for n in (7, 2**63 - 1, 2**63, 2**64 - 1)] == [7, 2**63 - 1, -(2**63), -1]
