"""What holds where no document says otherwise, by name: shown by `meshctl service NAME`.

Read from the resources' own defaults, so that what is shown is what the proxy does (`interfaces.md`, Defaults).
"""

from dataclasses import dataclass

from policies.compiled import Inbound, Outlier, Permissions, Retry, Rule, Upstream


@dataclass(frozen=True)
class Default:
    """`field`: where an operator changes it, as `kind.Path`; `value` as it would be written there."""

    field: str
    value: str


def defaults() -> tuple[Default, ...]:
    """All of them, in the order in which a request meets them."""
    upstream, outlier, retry = Upstream(), Outlier(), Retry()
    rule = Rule(origin="default#route", legs=())
    inbound = Inbound(name="", service="", app="", sni="")
    return (
        Default("service-defaults.Protocol", inbound.protocol),
        Default("mesh.DefaultIntention", Permissions().fallback),
        Default("service-router.RequestTimeout", shown_ms(rule.timeout_ms)),
        Default("service-router.PerTryTimeout", shown_ms(rule.per_try_timeout_ms)),
        Default("service-router.NumRetries", str(retry.attempts)),
        Default("service-router.RetryOn", ", ".join(retry.on)),
        Default("mesh.RetryBudget.Percent", f"{retry.budget.percent / 100:g}"),
        Default("mesh.RetryBudget.MinPerSecond", str(retry.budget.min_per_second)),
        Default("service-defaults.UpstreamConfig.ConnectTimeout", shown_ms(upstream.connect_timeout_ms)),
        Default("service-defaults.UpstreamConfig.AllowPlaintext", str(upstream.allow_plaintext).lower()),
        Default("service-defaults.PassiveHealthCheck.MaxFailures", str(outlier.consecutive_failures)),
        Default("service-defaults.PassiveHealthCheck.BaseEjectionTime", shown_ms(outlier.base_ejection_ms)),
        Default("service-defaults.PassiveHealthCheck.MaxEjectionPercent", f"{outlier.max_ejection_percent / 100:g}"),
        Default("service-defaults.PassiveHealthCheck.Interval", shown_ms(outlier.interval_ms)),
        Default("service-defaults.MaxInboundConnections", str(inbound.max_connections)),
        Default("service-defaults.LocalConnectTimeout", shown_ms(inbound.connect_timeout_ms)),
        Default("service-defaults.LocalRequestTimeout", shown_ms(inbound.request_timeout_ms)),
    )


def shown_ms(ms: int) -> str:
    """`1500` as `1.5s`, `250` as `250ms`, 0 as `none`."""
    if ms == 0:
        return "none"
    return f"{ms / 1000:g}s" if ms >= 1000 else f"{ms}ms"
