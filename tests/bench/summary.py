"""The table at the end: medians over the rounds, and each figure beside its peers'."""

from collections.abc import Mapping, Sequence
from statistics import median

from tests.bench.measure import Row

# What the project promises: ours <= bound x theirs, in CPU per request (medians of the same run).
BARS: Mapping[tuple[str, str], float] = {
    ("meshd-pair", "haproxy-pair"): 0.85,
    ("meshd-hop", "nginx-hop"): 1.05,
}
COLUMNS = ("rps", "us_per_req", "p50_ms", "p99_ms", "pss_mb", "control_us_per_req", "switches_per_req")


def table(rows: Sequence[Row]) -> str:
    """Text for people: one line per name, then the ratios of names that were measured together."""
    names = list(dict.fromkeys(row.name for row in rows))
    if not names:
        return "nothing was measured"
    lines = [f"{'median of rounds':18}" + "".join(f"{column:>20}" for column in COLUMNS) + f"{'errors':>8}"]
    for name in names:
        mine = [row for row in rows if row.name == name]
        figures = "".join(f"{median(getattr(row, column) for row in mine):20.2f}" for column in COLUMNS)
        lines.append(f"{name:18}{figures}{sum(row.errors for row in mine):8d}")
    return "\n".join([*lines, *_ratios(rows, names)])


def _ratios(rows: Sequence[Row], names: Sequence[str]) -> list[str]:
    lines = []
    for (ours, theirs), bar in BARS.items():
        if ours in names and theirs in names:
            ratio = cost(rows, ours) / cost(rows, theirs) if cost(rows, theirs) else float("inf")
            lines.append(f"{ours} / {theirs}: {ratio:.2f} (bar {bar:.2f}: {'held' if ratio <= bar else 'NOT held'})")
    for name in names:
        mine = [row for row in rows if row.name == name and row.us_per_req]
        if name.startswith("meshd-") and mine:
            share = median(row.control_us_per_req / row.us_per_req for row in mine)
            lines.append(f"{name}: meshd's own CPU beyond idle is {share:.2%} of the proxies' (bar 1 %)")
    return lines


def cost(rows: Sequence[Row], name: str) -> float:
    return median(row.us_per_req for row in rows if row.name == name)
