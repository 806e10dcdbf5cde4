"""When to renew, when to worry, and what to say about clocks. Pure: times are Unix seconds, randomness comes in.

Renewal times are shares of the lifetime, so that short-lived certificates (offline renewals, tests with compressed
time) follow the same rule: 1/7 of 7 days is daily for services, 7/30 of 30 days weekly for nodes.
"""

from datetime import UTC, datetime
from typing import Literal

from registry.ca.names import Kind

EXCHANGE = 90 * 86400.0  # how long after its end a node certificate can still be exchanged
RETRY_FIRST = 1.0
RETRY_MOST = 300.0  # a fleet that lost its authority for a night asks at most once in 5 minutes per host

Level = Literal["fine", "half", "low", "urgent", "expired"]


def renew_at(not_before: float, not_after: float, kind: Kind, draw: float) -> float:
    """The moment to renew. `draw` in [0, 1) is drawn once per certificate and spreads a fleet evenly.

    Between half and one and a half of the kind's period after the start: daily on average for services.
    """
    share = 1 / 7 if kind == "service" else 7 / 30
    return not_before + (not_after - not_before) * share * (0.5 + draw)


def retry_in(attempt: int, draw: float) -> float:
    """Seconds until the next try after `attempt` failures (from 1): full jitter, doubling, capped."""
    return min(RETRY_MOST, RETRY_FIRST * 2.0 ** min(attempt, 30)) * draw


def level(now: float, not_before: float, not_after: float) -> Level:
    """How urgent it is: alarms at 50, 20 and 5 percent of life left."""
    left = (not_after - now) / max(not_after - not_before, 1.0)
    if left <= 0:
        return "expired"
    if left <= 0.05:
        return "urgent"
    if left <= 0.20:
        return "low"
    return "half" if left <= 0.50 else "fine"


def exchangeable(now: float, not_after: float) -> bool:
    """Whether an expired node certificate may still be exchanged with the same key."""
    return now <= not_after + EXCHANGE


def clock_problem(now: float, not_before: float, not_after: float, *, clock: str, other: float | None = None) -> str:
    """Why a certificate is not valid now, with both clocks; empty: it is valid.

    `clock` says whose clock `now` is; `other` is the other side's clock where it is known.
    """
    if not_before <= now <= not_after:
        return ""
    when = "not valid before" if now < not_before else "expired at"
    bound = not_before if now < not_before else not_after
    theirs = f", the other side's says {stamp(other)}" if other is not None else ""
    return (
        f"certificate {when} {stamp(bound)}, but {clock} clock says {stamp(now)}{theirs}:"
        " compare the clocks of both hosts (timedatectl)"
    )


def stamp(seconds: float) -> str:
    """RFC 3339, UTC, whole seconds."""
    return datetime.fromtimestamp(int(seconds), UTC).isoformat().replace("+00:00", "Z")
