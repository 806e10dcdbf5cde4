"""When does a check's word change? Rise and fall, decided purely from results in a row.

Fields as Consul's (https://developer.hashicorp.com/consul/docs/services/usage/checks): the status turns passing
after `SuccessBeforePassing` + 1 good results, critical after `FailuresBeforeCritical` + 1 bad ones, and warning after
`FailuresBeforeWarning` + 1 when that is the lower bound. Zero, the default: every result counts at once.
"""

import msgspec

from registry.model import Check, Health


class Tally(msgspec.Struct, frozen=True):
    """The status in force and what has been seen since: at most one of the two rows is not 0."""

    status: Health
    good: int = 0
    bad: int = 0
    settled: bool = False  # a real result has decided, not the initial status


def step(check: Check, tally: Tally, result: Health) -> Tally:
    """The next tally after one result. `warning` results (HTTP 429) are good: the instance answers."""
    if result == "critical":
        return _bad(check, Tally(tally.status, 0, tally.bad + 1, tally.settled))
    good = tally.good + 1
    if tally.status == result or good > check.success_before_passing:
        return Tally(result, good, 0, True)
    return Tally(tally.status, good, 0, tally.settled)


def _bad(check: Check, tally: Tally) -> Tally:
    if tally.bad > check.failures_before_critical:
        return Tally("critical", 0, tally.bad, True)
    # In Consul the bound for warning is that for critical unless it is set.
    warning = check.failures_before_warning or check.failures_before_critical
    if tally.bad > warning and tally.status == "passing":
        return Tally("warning", 0, tally.bad, True)
    return tally


RANK: dict[Health, int] = {"passing": 0, "warning": 1, "critical": 2}


def worst(statuses: tuple[Health, ...]) -> Health:
    """An instance is as healthy as its worst check; without checks it passes."""
    return max(statuses, key=RANK.__getitem__, default="passing")
