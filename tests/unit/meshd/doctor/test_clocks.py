from email.utils import formatdate

import pytest

from meshd.doctor.clocks import judge, skew

NOON = 1_795_435_200.0  # 2026-11-23T12:00:00Z


@pytest.mark.parametrize(("ahead", "verdict"), [(0, "ok"), (-29, "ok"), (31, "warn"), (-200, "warn"), (400, "fail")])
def test_how_far_apart(ahead: float, verdict: str) -> None:
    check = judge("registry", formatdate(NOON + ahead, usegmt=True), NOON, NOON + 1)
    assert check.verdict == verdict


def test_both_clocks_are_shown() -> None:
    check = judge("authority", formatdate(NOON - 600, usegmt=True), NOON, NOON + 1)
    assert "2026-11-23T12:00:00Z" in check.seen
    assert "2026-11-23T11:50:00Z" in check.seen
    assert "-600 s" in check.seen


@pytest.mark.parametrize("date", ["", "yesterday"])
def test_an_answer_without_its_time_says_nothing(date: str) -> None:
    assert skew(date, NOON, NOON) is None
    assert judge("registry", date, NOON, NOON).verdict == "ok"
