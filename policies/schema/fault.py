"""Kind `fault` (ours): an experiment on a service's requests that ends itself."""

from dataclasses import dataclass
from typing import ClassVar

from policies.schema import values
from policies.schema.document import Base
from policies.schema.matching import HTTP, HttpMatch
from policies.schema.shape import Field, Shape, list_of, scalar


@dataclass(frozen=True, kw_only=True)
class Delay:
    """`fixed_ms`, or `min_ms` to `max_ms` (validated)."""

    fixed_ms: int | None = None
    min_ms: int | None = None
    max_ms: int | None = None
    percent: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Abort:
    """Either an answer or a reset (validated)."""

    http_status: int | None = None
    reset: bool = False
    percent: int = 10_000


@dataclass(frozen=True, kw_only=True)
class FaultMatch:
    http: HttpMatch | None = None


@dataclass(frozen=True, kw_only=True)
class Fault(Base):
    """`until_ms`: Unix time; the proxy's clock decides, so one that has ended still compiles."""

    kind: ClassVar[str] = "fault"

    service: str
    until_ms: int
    match: FaultMatch = FaultMatch()
    sources: tuple[str, ...] = ()
    header: str | None = None
    delay: Delay | None = None
    abort: Abort | None = None


HOUR_MS = 3_600_000


DELAY = Shape(
    Delay,
    (
        Field("Fixed", "fixed_ms", scalar(lambda value: values.duration(value, high=HOUR_MS))),
        Field("Min", "min_ms", scalar(lambda value: values.duration(value, low=0, high=HOUR_MS))),
        Field("Max", "max_ms", scalar(lambda value: values.duration(value, high=HOUR_MS))),
        Field("Percent", "percent", scalar(values.percent)),
    ),
)

ABORT = Shape(
    Abort,
    (
        Field("HTTPStatus", "http_status", scalar(values.whole(200, 599))),
        Field("Reset", "reset", scalar(values.boolean)),
        Field("Percent", "percent", scalar(values.percent)),
    ),
    later=("GRPCStatus",),
)

MATCH = Shape(FaultMatch, (Field("HTTP", "http", HTTP),))

SHAPE = Shape(
    Fault,
    (
        Field("Service", "service", scalar(values.service_name), required=True),
        Field("Until", "until_ms", scalar(values.instant), required=True),
        Field("Match", "match", MATCH),
        Field("Sources", "sources", list_of(scalar(values.service_name))),
        Field("Header", "header", scalar(values.optional(values.header_name))),
        Field("Delay", "delay", DELAY),
        Field("Abort", "abort", ABORT),
    ),
    later=("Bandwidth",),
)
