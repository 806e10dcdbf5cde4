"""What is known of containers, message by message."""

import pytest

from meshd.control.container import Container
from meshd.control.container_events import LEAVING, Away, Ended, Killed, Known, Listed, Seen, number, stops

OLD = Container(id="a", name="old", started=100)
NEW = Container(id="b", name="new", started=200)


@pytest.fixture
def known() -> Known:
    made = Known()
    made.apply(Listed((NEW, OLD)), 0.0)
    return made


def names(known: Known, now: float = 1.0) -> list[str]:
    return [one.name for one in known.serving(now)]


def test_the_oldest_comes_first(known: Known) -> None:
    assert names(known) == ["old", "new"]
    assert known.listed


def test_a_listing_is_the_whole_truth(known: Known) -> None:
    known.apply(Listed((NEW,)), 1.0)
    assert names(known) == ["new"]


def test_a_stop_signal_comes_before_the_end(known: Known) -> None:
    known.apply(Killed("a", "15", 150), 1.0)
    assert names(known) == ["new"]
    known.apply(Ended("a", 160), 2.0)
    assert names(known) == ["new"]
    known.apply(Seen(Container(id="a", name="old", started=170)), 3.0)
    assert names(known, 3.0) == ["old", "new"]


def test_a_listing_does_not_bring_back_who_was_told_to_stop(known: Known) -> None:
    known.apply(Killed("a", "15", 150), 1.0)
    known.apply(Listed((OLD, NEW)), 2.0)
    assert names(known, 2.0) == ["new"]


def test_who_ignores_the_signal_counts_again(known: Known) -> None:
    known.apply(Killed("a", "TERM", 150), 1.0)
    assert known.next_deadline(1.0) == 1.0 + LEAVING
    assert names(known, 1.0 + LEAVING) == ["old", "new"]
    assert known.next_deadline(1.0 + LEAVING) is None


def test_replayed_events_of_an_earlier_run_mean_nothing(known: Known) -> None:
    known.apply(Killed("a", "15", 99), 1.0)
    known.apply(Ended("a", 99), 1.0)
    assert names(known) == ["old", "new"]


def test_events_of_strangers_mean_nothing(known: Known) -> None:
    known.apply(Killed("x", "15", 999), 1.0)
    known.apply(Ended("x", 999), 1.0)
    assert names(known) == ["old", "new"]


def test_a_paused_one_does_not_serve(known: Known) -> None:
    known.apply(Seen(Container(id="a", name="old", started=100, running=False)), 1.0)
    assert names(known) == ["new"]


def test_a_daemon_that_is_away_takes_out_only_the_dead(known: Known) -> None:
    known.apply(Away("Connection refused", frozenset({"a"})), 1.0)
    assert names(known) == ["new"]
    assert known.problem == "Connection refused"
    known.apply(Listed((NEW,)), 2.0)
    assert known.problem == ""


@pytest.mark.parametrize(
    ("given", "own", "ends"),
    [
        ("15", "", True), ("9", "SIGQUIT", True), ("SIGINT", "", True), ("3", "SIGQUIT", True), ("1", "", False),
        ("1", "SIGHUP", True), ("10", "", False), ("28", "SIGWINCH", True), ("37", "SIGRTMIN+3", True),
        ("", "", False), ("nonsense", "nonsense", False), ("²", "", False), ("RTMIN+x", "", False),
    ],
)  # fmt: skip
def test_signals_that_end_a_container(given: str, own: str, ends: bool) -> None:
    assert stops(given, own) is ends


def test_numbers_of_signals() -> None:
    assert [number(one) for one in ("15", "SIGTERM", "term", "RTMIN+3", "no")] == [15, 15, 15, 37, 0]
