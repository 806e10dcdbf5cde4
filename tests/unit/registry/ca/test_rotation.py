"""Renewal times, alarms and clocks."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.ca import rotation

DAY = 86400.0
UNIT = st.floats(0, 1, exclude_max=True)


@given(UNIT)
def test_services_daily_nodes_weekly(draw: float) -> None:
    assert 0.5 * DAY <= rotation.renew_at(0, 7 * DAY, "service", draw) <= 1.5 * DAY
    assert 3.5 * DAY <= rotation.renew_at(0, 30 * DAY, "node", draw) <= 10.5 * DAY
    assert rotation.renew_at(0, 30, "service", draw) < 30 * 0.25


def test_a_fleet_spreads() -> None:
    times = {rotation.renew_at(0, 7 * DAY, "service", n / 10) for n in range(10)}
    assert len(times) == 10


@given(st.integers(1, 1000), UNIT)
def test_retries_jitter_and_stay_bounded(attempt: int, draw: float) -> None:
    assert 0 <= rotation.retry_in(attempt, draw) <= rotation.RETRY_MOST
    assert rotation.retry_in(1, draw) <= 2.0


@pytest.mark.parametrize(
    ("now", "level"),
    [(0, "fine"), (49, "fine"), (50, "half"), (80, "low"), (95, "urgent"), (100, "expired"), (500, "expired")],
)
def test_alarms(now: float, level: str) -> None:
    assert rotation.level(now, 0, 100) == level


def test_exchange_ends_after_90_days() -> None:
    assert rotation.exchangeable(90 * DAY, 0)
    assert not rotation.exchangeable(90 * DAY + 1, 0)


def test_clock_problems_print_both_clocks() -> None:
    assert rotation.clock_problem(5, 0, 10, clock="this host's") == ""
    early = rotation.clock_problem(5, 10, 20, clock="this host's", other=17)
    assert "not valid before 1970-01-01T00:00:10Z" in early
    assert "this host's clock says 1970-01-01T00:00:05Z" in early
    assert "other side's says 1970-01-01T00:00:17Z" in early
    late = rotation.clock_problem(25, 10, 20, clock="the authority's")
    assert "expired at 1970-01-01T00:00:20Z" in late
    assert "the authority's clock says 1970-01-01T00:00:25Z" in late
