"""Go's durations (`1h5m0.5s`), as Consul reads and writes them. https://pkg.go.dev/time#ParseDuration"""

from collections.abc import Callable

UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
NANOSECOND = 1e-9
DIGITS = frozenset("0123456789.")


def parse(text: str) -> float | None:
    """Seconds, or None when `text` is no duration. Numbers need a unit, except `0`; there is no sign."""
    if text == "0":
        return 0.0
    seconds, rest = 0.0, text
    while rest:
        number, rest = _split(rest, lambda c: c in DIGITS)
        unit, rest = _split(rest, lambda c: c not in DIGITS)
        scale = UNITS.get(unit)
        if scale is None or number.count(".") > 1 or not number.strip("."):
            return None
        seconds += float(number) * scale
    return seconds if text and len(text) <= 64 else None


def render(seconds: float) -> str:
    """Go's way to write it: `10s`, `1m0s`, `24h0m0s`, `0s`, `1.5s`, `250ms`."""
    if 0 < seconds < 1:
        return f"{seconds * 1000:g}ms"
    minutes, rest = divmod(seconds, 60)
    hours, minutes = divmod(int(minutes), 60)
    tail = f"{rest:g}s"
    if hours:
        return f"{hours}h{minutes}m{tail}"
    return f"{minutes}m{tail}" if minutes else tail


def _split(text: str, wanted: Callable[[str], bool]) -> tuple[str, str]:
    end = next((i for i, c in enumerate(text) if not wanted(c)), len(text))
    return text[:end], text[end:]
