"""Kind fault."""

import pytest

from policies.schema.fault import Abort, Delay, Fault, FaultMatch
from policies.schema.matching import HttpMatch
from tests.unit.policies.build import document, problem

UNTIL = "Until: 2026-12-01T18:00:00Z"


def test_everything_that_it_may_say() -> None:
    text = f"""
Service: api
Sources: [web]
Header: X-Chaos
Match: {{HTTP: {{PathExact: /a}}}}
Delay: {{Min: 0ms, Max: 200ms, Percent: 50}}
Abort: {{HTTPStatus: 503, Percent: 0.01}}
{UNTIL}
"""
    assert document("fault", "slow", text) == Fault(
        name="slow",
        version=1,
        service="api",
        until_ms=1_796_148_000_000,
        match=FaultMatch(http=HttpMatch(path_exact="/a")),
        sources=("web",),
        header="x-chaos",
        delay=Delay(min_ms=0, max_ms=200, percent=5000),
        abort=Abort(http_status=503, percent=1),
    )


def test_an_experiment_ends_itself() -> None:
    found = problem("fault", "slow", "Service: api\nDelay: {Fixed: 1s}")
    assert (found.path, found.reason) == ("Until", "is missing")


@pytest.mark.parametrize("field", ["Bandwidth: {BytesPerSecond: 3}", "Abort: {HTTPStatus: 500, GRPCStatus: 14}"])
def test_later_fields_are_named(field: str) -> None:
    found = problem("fault", "slow", f"Service: api\nDelay: {{Fixed: 1s}}\n{UNTIL}\n{field}")
    assert "not supported yet" in found.reason
