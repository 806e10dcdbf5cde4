"""Critical for too long: counted from the first critical result in a row."""

from meshd.control.overdue import Overdue
from registry.model import Check, CheckResult, Health, Instance

CHECKS = (
    Check(check_id="c", ttl=5.0, deregister_critical_service_after=60.0),
    Check(check_id="d", ttl=5.0, deregister_critical_service_after=30.0),
    Check(check_id="never", ttl=5.0),
)
WEB = Instance(service="web", node="a", id="1", address="10.0.0.1", port=80, checks=CHECKS)


def result(check_id: str, status: Health) -> CheckResult:
    return CheckResult(check_id=check_id, status=status)


def test_the_row_counts_from_its_first_result() -> None:
    overdue = Overdue()
    overdue.saw("1", result("c", "critical"), 100.0)
    overdue.saw("1", result("c", "critical"), 130.0)
    assert overdue.due([WEB]) == {"1": 160.0}
    overdue.saw("1", result("c", "passing"), 140.0)
    assert overdue.due([WEB]) == {}


def test_the_earliest_check_decides_and_others_do_not_count() -> None:
    overdue = Overdue()
    for check in ("c", "d", "never"):
        overdue.saw("1", result(check, "critical"), 100.0)
    assert overdue.due([WEB]) == {"1": 130.0}
    overdue.forget("1")
    assert overdue.due([WEB]) == {}
