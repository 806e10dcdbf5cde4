"""Clock skew against who answers, from the Date header of HTTP (RFC 9110, 6.6.1: whole seconds). Pure."""

from email.utils import parsedate_to_datetime

from meshd.doctor.check import Check, fail, ok, warn
from registry.ca import rotation

WARN = 30.0  # seconds
FAIL = 300.0  # seconds: certificates are backdated, but tokens and leases are not


def skew(date: str, before: float, after: float) -> float | None:
    """Seconds that the other clock is ahead of ours; `before` and `after` the request, Unix time. None: no date."""
    try:
        theirs = parsedate_to_datetime(date).timestamp()
    except (TypeError, ValueError):
        return None
    return theirs + 0.5 - (before + after) / 2


def judge(who: str, date: str, before: float, after: float) -> Check:
    """`who`: whose clock is compared."""
    name = f"clock {who}"
    ahead = skew(date, before, after)
    if ahead is None:
        return ok(name, "it does not say its time")
    ours = (before + after) / 2
    seen = f"ours {rotation.stamp(ours)}, theirs {rotation.stamp(ours + ahead)}: {ahead:+.0f} s"
    todo = "set both hosts to one time source (timedatectl, chronyc tracking)"
    if abs(ahead) > FAIL:
        return fail(name, seen, todo)
    return warn(name, seen, todo) if abs(ahead) > WARN else ok(name, seen)
