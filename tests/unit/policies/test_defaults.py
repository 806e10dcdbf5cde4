"""Defaults: what is shown is what `interfaces.md` promises and what the proxy is told."""

import pytest

from policies.defaults import defaults, shown_ms

PROMISED = {
    "service-defaults.Protocol": "tcp",
    "mesh.DefaultIntention": "deny",
    "service-router.RequestTimeout": "15s",
    "service-router.NumRetries": "2",
    "mesh.RetryBudget.Percent": "20",
    "mesh.RetryBudget.MinPerSecond": "10",
    "service-defaults.UpstreamConfig.ConnectTimeout": "1s",
    "service-defaults.UpstreamConfig.AllowPlaintext": "false",
    "service-defaults.PassiveHealthCheck.MaxFailures": "5",
    "service-defaults.PassiveHealthCheck.BaseEjectionTime": "30s",
    "service-defaults.PassiveHealthCheck.MaxEjectionPercent": "50",
}


def test_what_was_promised() -> None:
    shown = {default.field: default.value for default in defaults()}
    assert shown.items() >= PROMISED.items()
    assert len(shown) == len(defaults())


@pytest.mark.parametrize(("ms", "expected"), [(0, "none"), (250, "250ms"), (1500, "1.5s"), (15_000, "15s")])
def test_durations_as_they_would_be_written(ms: int, expected: str) -> None:
    assert shown_ms(ms) == expected
