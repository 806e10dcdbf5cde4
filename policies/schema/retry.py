"""Retry budgets, which `mesh` and `service-router` share."""

from dataclasses import dataclass

from policies.schema import values
from policies.schema.shape import Field, Shape, scalar


@dataclass(frozen=True, kw_only=True)
class Budget:
    """`percent` in hundredths of a percent of the requests, and a floor per second. None: the level above says."""

    percent: int | None = None
    min_per_second: int | None = None


BUDGET = Shape(
    Budget,
    (
        Field("Percent", "percent", scalar(values.percent)),
        Field("MinPerSecond", "min_per_second", scalar(values.whole(0, 1_000_000))),
    ),
)
