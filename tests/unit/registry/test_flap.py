"""Damping as RFC 2439 has it: few flaps pass, many are held back for a bounded time, never most of a service."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import flap
from registry.flap import CEILING, HALF_LIFE, LONGEST, MAX_SHARE, REUSE, Flaps, Tracker
from registry.model import EndpointState, InstanceKey


def key(name: str = "1", service: str = "web") -> InstanceKey:
    return InstanceKey(service, "a", name)


def series(times: list[float], half_life: float = HALF_LIFE) -> Flaps:
    known: Flaps | None = None
    for at in times:
        known = flap.flapped(known, at, half_life)
    assert known is not None
    return known


def flapping(tracker: Tracker, one: InstanceKey, count: int, now: float, every: float = 2.0) -> float:
    """Out and back `count` times; returns when it came back last."""
    tracker.seen(one, "passing", now, excused=False)
    for _ in range(count):
        tracker.seen(one, "critical", now + every / 2, excused=False)
        now += every
        tracker.seen(one, "passing", now, excused=False)
    return now


def test_the_fourth_of_a_quick_series_is_damped_and_three_are_not() -> None:
    assert not series([0.0, 2.0, 4.0]).damped
    assert series([0.0, 2.0, 4.0, 6.0]).damped


def test_a_restart_now_and_then_is_never_damped() -> None:
    assert not series([120.0 * n for n in range(1000)]).damped


def test_a_crash_loop_stays_damped_as_long_as_it_lasts() -> None:
    known = series([30.0 * n for n in range(100)])
    assert known.damped
    assert flap.is_damped(known, 30.0 * 99 + 29.0, HALF_LIFE)


def test_penalties_halve_every_half_life() -> None:
    known = series([0.0])
    assert flap.penalty_at(known, HALF_LIFE, HALF_LIFE) == pytest.approx(0.5)
    assert flap.penalty_at(known, 3 * HALF_LIFE, HALF_LIFE) == pytest.approx(0.125)
    assert flap.is_over(known, 2 * HALF_LIFE, HALF_LIFE)


def test_the_longest_hold_is_bounded_by_the_ceiling() -> None:
    known = series([0.001 * n for n in range(10_000)])
    assert known.penalty == pytest.approx(CEILING)
    assert flap.reuse_at(known, HALF_LIFE) - known.at == pytest.approx(LONGEST * HALF_LIFE)


def test_at_the_time_of_reuse_the_penalty_is_the_threshold() -> None:
    known = series([0.0, 1.0, 2.0, 3.0])
    end = flap.reuse_at(known, HALF_LIFE)
    assert flap.penalty_at(known, end, HALF_LIFE) == pytest.approx(REUSE)
    assert flap.is_damped(known, end - 0.1, HALF_LIFE)
    assert not flap.is_damped(known, end + 0.1, HALF_LIFE)


def test_a_half_life_of_nothing_damps_nothing() -> None:
    known = series([0.0, 0.1, 0.2, 0.3, 0.4], 0.0)
    assert not flap.is_damped(known, 0.4, 0.0)
    assert flap.is_over(known, 0.4, 0.0)


@pytest.mark.parametrize(("usable", "held"), [(1, 0), (2, 1), (3, 1), (4, 2), (10, 4)])
def test_at_most_half_of_the_usable_instances_is_held_back_worst_first(usable: int, held: int) -> None:
    wanted = {key(str(n)): Flaps(4.0 + n, 0.0, damped=True) for n in range(min(4, usable))}
    found = flap.held_back(wanted, usable)
    assert len(found) == held
    assert found == {key(str(n)) for n in sorted(range(len(wanted)), reverse=True)[:held]}


def test_an_outage_is_one_flap_however_many_signs_of_it_there_were() -> None:
    tracker = Tracker()
    tracker.seen(key(), "passing", 0.0, excused=False)
    signs: tuple[EndpointState, ...] = ("critical", "suspect", "critical", "suspect")
    for state in signs:
        tracker.seen(key(), state, 1.0, excused=False)
    tracker.seen(key(), "warning", 2.0, excused=False)
    tracker.seen(key(), "passing", 3.0, excused=False)
    assert tracker._flaps[key()].count == 1


def test_the_way_into_use_is_no_flap() -> None:
    tracker = Tracker()
    tracker.seen(key(), "critical", 0.0, excused=False)
    tracker.seen(key(), "passing", 1.0, excused=False)
    assert tracker._flaps == {}


def test_what_happened_in_a_wave_is_not_held_against_it() -> None:
    tracker = Tracker()
    for at in range(10):
        tracker.seen(key(), "suspect", float(at), excused=False)
        tracker.seen(key(), "passing", float(at), excused=True)
    assert tracker._flaps == {}


@pytest.mark.parametrize("word", ["forgive", "forget", "draining"])
def test_a_word_of_its_operator_ends_it(word: str) -> None:
    tracker = Tracker()
    now = flapping(tracker, key(), 5, 0.0)
    assert tracker.damped([key(), key("2")], now).keys() == {key()}
    if word == "draining":
        tracker.seen(key(), "draining", now, excused=False)
    else:
        getattr(tracker, word)(key())
    assert tracker.damped([key(), key("2")], now) == {}
    assert tracker.next_end() is None


def test_its_end_is_said_once_and_then_forgotten() -> None:
    tracker = Tracker()
    now = flapping(tracker, key(), 4, 0.0)
    assert tracker.services() == {"web"}
    end = tracker.next_end()
    assert end is not None
    assert end == tracker.until(tracker._flaps[key()])
    assert tracker.expire(now) == frozenset()
    assert tracker.expire(end) == {key()}
    assert tracker.expire(end) == frozenset()
    assert tracker.next_end() is None
    tracker.expire(end + 2 * HALF_LIFE)
    assert tracker._flaps == {}


def test_the_last_usable_instance_is_never_held_back() -> None:
    tracker = Tracker()
    now = flapping(tracker, key(), 9, 0.0)
    assert tracker.damped([key()], now) == {}
    assert tracker.damped([key(), key("2")], now).keys() == {key()}


STEPS = st.lists(
    st.tuples(st.sampled_from("abcde"), st.sampled_from(["passing", "critical", "suspect"]), st.floats(0, 30)),
    max_size=60,
)


@given(STEPS)
def test_whatever_happens_half_stays_and_every_hold_ends(steps: list[tuple[str, EndpointState, float]]) -> None:
    tracker, now = Tracker(), 0.0
    states: dict[InstanceKey, EndpointState] = {}
    for name, state, wait in steps:
        now += wait
        states[key(name)] = state
        tracker.seen(key(name), state, now, excused=False)
        usable = [one for one, found in states.items() if found == "passing"]
        assert len(tracker.damped(usable, now)) <= len(usable) * MAX_SHARE
    tracker.expire(now + LONGEST * HALF_LIFE + 1.0)
    assert tracker.next_end() is None
