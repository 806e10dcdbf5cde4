"""What a figure hands back: one JSON line, one line for people, and whether what was promised holds."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

from tests.load.report import percentile


@dataclass(frozen=True)
class Bar:
    """`most`: what was promised; a figure above it is a missed bar."""

    name: str
    value: float
    most: float

    @property
    def held(self) -> bool:
        return self.value <= self.most


@dataclass(frozen=True)
class Row:
    """`fields` in their order; `invalid`: why the run says nothing, empty: it does."""

    figure: str
    fields: Mapping[str, object]
    line: str
    bars: Sequence[Bar] = field(default=())
    invalid: str = ""

    @property
    def held(self) -> bool:
        return not self.invalid and all(bar.held for bar in self.bars)

    def as_json(self) -> dict[str, object]:
        bars = {bar.name: {"value": round(bar.value, 3), "most": bar.most, "held": bar.held} for bar in self.bars}
        return {"figure": self.figure, **self.fields, "bars": bars, "invalid": self.invalid}

    def text(self) -> str:
        verdicts = [
            f"{bar.name} {bar.value:.2f} (bar {bar.most:g}: {'held' if bar.held else 'NOT held'})" for bar in self.bars
        ]
        return "; ".join(
            [f"{self.figure}: {self.line}", *verdicts, *([f"INVALID: {self.invalid}"] * bool(self.invalid))]
        )


def milliseconds(seconds: Sequence[float]) -> dict[str, float]:
    """Median, 90th and 99th percentile and the largest of durations in seconds."""
    order = sorted(one * 1000 for one in seconds)
    marks = {"p90": percentile(order, 90), "p99": percentile(order, 99), "max": order[-1]}
    return {"median": round(median(order), 3)} | {name: round(value, 3) for name, value in marks.items()}
