"""Rise and fall of checks, as Consul counts them."""

import pytest

from meshd.control.threshold import Tally, step, worst
from registry.model import Check, Health

SIGNS: dict[str, Health] = {"+": "passing", "!": "warning", "-": "critical"}


def run(check: Check, results: str, status: Health = "critical") -> str:
    """One letter per result: the status in force after it."""
    tally = Tally(status)
    shown = ""
    for sign in results:
        tally = step(check, tally, SIGNS[sign])
        shown += tally.status[0]
    return shown


@pytest.mark.parametrize(
    ("fields", "results", "statuses"),
    [
        ({}, "+-+!", "pcpw"),
        ({"success_before_passing": 2}, "++-+++", "ccccc" + "p"),
        ({"success_before_passing": 1, "failures_before_critical": 2}, "++--+---", "cppp" + "ppp" + "c"),
        ({"failures_before_critical": 2, "failures_before_warning": 1}, "+---+---", "ppwcppwc"),
        ({"failures_before_critical": 1}, "+-!-!--", "pp" + "wwwwc"),
    ],
)
def test_rows(fields: dict[str, int], results: str, statuses: str) -> None:
    assert run(Check(check_id="c", tcp="127.0.0.1:1", **fields), results) == statuses  # type: ignore[arg-type] - fields come from the table


def test_first_result_settles_even_without_a_change() -> None:
    check = Check(check_id="c", tcp="127.0.0.1:1")
    assert step(check, Tally("critical"), "critical").settled
    assert step(check, Tally("passing"), "passing").settled


def test_worst() -> None:
    assert worst(()) == "passing"
    assert worst(("passing", "warning")) == "warning"
    assert worst(("warning", "critical", "passing")) == "critical"
