"""What came back: counts, latencies from the scheduled departure, and a line per second."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass

# Enough to see what went wrong; a run that fails entirely must not print itself to death.
KEPT_ERRORS = 10
PERCENTILES = (50.0, 90.0, 99.0, 99.9)


@dataclass(frozen=True)
class Second:
    second: int
    ok: int
    failed: int


@dataclass(frozen=True)
class Report:
    """Latencies in milliseconds, measured from the departure the schedule asked for (open loop: no waiting hides)."""

    ok: int
    failed: int
    seconds: float
    rate: float
    statuses: dict[str, int]
    latency_ms: dict[str, float]
    errors: tuple[str, ...]
    per_second: tuple[Second, ...]

    def as_json(self) -> dict[str, object]:
        return asdict(self)


class Tally:
    """Collects while a run goes on; `report` may be asked at any time."""

    def __init__(self) -> None:
        self._latencies: list[float] = []
        self._statuses: Counter[str] = Counter()
        self._ok: Counter[int] = Counter()
        self._failed: Counter[int] = Counter()
        self._errors: list[str] = []

    def answered(self, at: float, latency: float, status: int, body: bytes) -> None:
        """`at` (since the run's start) and `latency` in seconds. 2xx and 3xx are what a caller wanted."""
        self._statuses[str(status)] += 1
        if 200 <= status < 400:
            self._ok[int(at)] += 1
            self._latencies.append(latency * 1000)
        else:
            self._fail(at, f"status {status}: {body[:200].decode('utf-8', 'replace')}")

    def broke(self, at: float, error: Exception) -> None:
        self._statuses["none"] += 1
        self._fail(at, f"{type(error).__name__}: {error}")

    def _fail(self, at: float, text: str) -> None:
        self._failed[int(at)] += 1
        if len(self._errors) < KEPT_ERRORS:
            self._errors.append(f"at {at:.3f} s: {text}")

    def report(self, seconds: float) -> Report:
        ok, failed = self._ok.total(), self._failed.total()
        marks = {f"p{mark:g}": round(percentile(sorted(self._latencies), mark), 3) for mark in PERCENTILES}
        last = max((*self._ok, *self._failed), default=-1)
        return Report(
            ok=ok,
            failed=failed,
            seconds=round(seconds, 3),
            rate=round((ok + failed) / seconds, 1) if seconds > 0 else 0.0,
            statuses=dict(sorted(self._statuses.items())),
            latency_ms={**marks, "max": round(max(self._latencies, default=0.0), 3)},
            errors=tuple(self._errors),
            per_second=tuple(Second(at, self._ok[at], self._failed[at]) for at in range(last + 1)),
        )


def percentile(ordered: Sequence[float], mark: float) -> float:
    """Nearest rank of an ascending sequence; 0 when there is none."""
    if not ordered:
        return 0.0
    return ordered[max(0, math.ceil(len(ordered) * mark / 100) - 1)]
