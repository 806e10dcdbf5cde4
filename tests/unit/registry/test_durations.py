"""Go's durations."""

import pytest

from registry import durations


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0.0),
        ("0s", 0.0),
        ("5s", 5.0),
        ("1.5s", 1.5),
        (".5s", 0.5),
        ("1h5m0.5s", 3900.5),
        ("100ms", 0.1),
        ("250us", 0.00025),
        ("250µs", 0.00025),
        ("7ns", 7e-9),
        ("5m", 300.0),
    ],
)
def test_parse(text: str, seconds: float) -> None:
    assert durations.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "5", "s", "5x", "-5s", "5 s", "1..5s", ".s", "5s5", "1d", "\u0665s", "1s" * 40])
def test_what_is_no_duration(text: str) -> None:
    assert durations.parse(text) is None


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0s"), (0.25, "250ms"), (10, "10s"), (1.5, "1.5s"), (60, "1m0s"), (86400, "24h0m0s"), (3661.5, "1h1m1.5s")],
)
def test_render_is_what_go_writes_and_parse_reads(seconds: float, text: str) -> None:
    assert durations.render(seconds) == text
    assert durations.parse(text) == pytest.approx(seconds)
