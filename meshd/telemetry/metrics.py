"""`/metrics` in the Prometheus text format, from the proxy's cumulative Stats and what meshd knows itself.

Totals are passed on as they are: the proxy counts, nothing here does, so a restarted meshd loses nothing. Labels are
bounded: services and flags are the mesh's own, methods that are not known become `OTHER`.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import generate_latest
from prometheus_client.registry import CollectorRegistry

from policies.compiled import BUCKETS, Named, Stats

if TYPE_CHECKING:
    from prometheus_client.metrics_core import Metric

METHODS = frozenset(("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "CONNECT", "TRACE", "OTHER"))
BOUNDS = tuple(str(bound) for bound in BUCKETS)


@dataclass(frozen=True)
class Facts:
    """What meshd itself contributes. Times are Unix seconds; `endpoints` counts by (service, state)."""

    version: str
    node: str
    endpoints: dict[tuple[str, str], int] = field(default_factory=dict)
    certificates: dict[str, float] = field(default_factory=dict)  # expiry by name
    last_event: dict[str, float] = field(default_factory=dict)  # by watched prefix
    reload_ok: bool = True
    documents_rejected: int = 0
    proxy_up: bool = False
    proxy_restarts: int = 0
    process_cpu: float = 0.0  # seconds of this meshd
    staleness: dict[str, float] = field(default_factory=dict)  # seconds by service
    held: dict[str, str] = field(default_factory=dict)  # why, by prefix
    braked: dict[str, int] = field(default_factory=dict)  # instances by service
    damped: dict[str, int] = field(default_factory=dict)  # instances by service
    reconcile_differences: int = 0
    foreign: bool = False
    snapshot_age: float = -1.0  # seconds; negative: there is none
    snapshot_in_use: bool = False
    snapshot_refused: bool = False


def render(stats: Stats | None, facts: Facts) -> bytes:
    """The whole page. Without a proxy (`stats` None) only meshd's own metrics."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Page(stats, facts))
    return generate_latest(registry)


class _Page:
    """A collector for one scrape."""

    def __init__(self, stats: Stats | None, facts: Facts) -> None:
        self._stats = stats
        self._facts = facts

    def collect(self) -> Iterator["Metric"]:
        if self._stats is not None:
            yield from traffic(self._stats)
        yield from own(self._facts)


def traffic(stats: Stats) -> Iterator["Metric"]:
    """What the proxy counted."""
    yield _requests(stats)
    yield _durations(stats)
    yield from _tcp(stats)
    attempts = CounterMetricFamily(
        "meshd_upstream_attempts",
        "Tries towards endpoints, by how they ended.",
        labels=("source", "destination", "outcome"),
    )
    for one in stats.attempts:
        attempts.add_metric((one.source, one.destination, one.outcome), one.count)
    yield attempts
    probes = CounterMetricFamily(
        "meshd_suspect_probes", "Handshakes with endpoints that the registry lost.", labels=("destination", "result")
    )
    for probe in stats.probes:
        probes.add_metric((probe.service, probe.result), probe.count)
    yield probes
    yield _named("meshd_retry_budget_exhausted", "Retries not made: the budget was used up.", "destination",
                 ((one.name, one.count) for one in stats.retry_budget_exhausted))  # fmt: skip
    yield _named("meshd_denied", "Requests and connections denied, by intention.", "intention",
                 _without_version(stats.denied))  # fmt: skip
    yield _gauge("meshd_proxy_connections", "Connections open at the proxy.", stats.connections)
    yield _gauge("meshd_proxy_start_timestamp_seconds", "When the proxy began to count.", stats.started)
    yield CounterMetricFamily(
        "meshd_dropped_events", "Events that the proxy could not hand over in time.", value=stats.dropped_events
    )


def _requests(stats: Stats) -> "Metric":
    family = CounterMetricFamily(
        "meshd_requests",
        "Requests answered, as seen by the caller's proxy (source) or the callee's (destination).",
        labels=("reporter", "source", "destination", "method", "code", "flags"),
    )
    totals: dict[tuple[str, ...], int] = {}
    for one in stats.requests:
        method = one.method if one.method in METHODS else "OTHER"
        labels: tuple[str, ...] = (one.reporter, one.source, one.destination, method, str(one.code), one.flags)
        totals[labels] = totals.get(labels, 0) + one.count
    for labels, count in totals.items():
        family.add_metric(labels, count)
    return family


def _durations(stats: Stats) -> "Metric":
    family = HistogramMetricFamily(
        "meshd_request_duration_seconds",
        "From the request's head to the end of its answer.",
        labels=("reporter", "source", "destination"),
    )
    for one in stats.durations:
        buckets: list[tuple[str, float]] = []
        total = 0
        for bound, count in zip((*BOUNDS, "+Inf"), one.buckets, strict=True):
            total += count
            buckets.append((bound, total))
        family.add_metric((one.reporter, one.source, one.destination), buckets, one.sum)
    return family


def _tcp(stats: Stats) -> Iterator["Metric"]:
    labels = ("reporter", "source", "destination")
    opened = CounterMetricFamily("meshd_tcp_connections_opened", "Connections of TCP services opened.", labels=labels)
    closed = CounterMetricFamily("meshd_tcp_connections_closed", "Connections of TCP services closed.", labels=labels)
    active = GaugeMetricFamily("meshd_tcp_connections_active", "Connections of TCP services open now.", labels=labels)
    for one in stats.tcp:
        values = (one.reporter, one.source, one.destination)
        opened.add_metric(values, one.opened)
        closed.add_metric(values, one.closed)
        active.add_metric(values, one.opened - one.closed)
    return iter((opened, closed, active))


def own(facts: Facts) -> Iterator["Metric"]:
    """What meshd knows itself."""
    endpoints = GaugeMetricFamily("meshd_endpoints", "Instances as this host sees them.", labels=("service", "state"))
    for labels, count in sorted(facts.endpoints.items()):
        endpoints.add_metric(labels, count)
    yield endpoints
    yield _stamps("meshd_certificate_expiry_timestamp_seconds", "When a certificate ends.", "name", facts.certificates)
    yield _stamps(
        "meshd_registry_last_event_timestamp_seconds",
        "When the registry last gave a sign of life.",
        "prefix",
        facts.last_event,
    )
    yield _stamps("meshd_registry_staleness_seconds", "For how long a service's endpoints are unconfirmed by the "
                  "registry.", "service", facts.staleness)  # fmt: skip
    yield from _doubts(facts)
    yield from _snapshot(facts)
    yield _gauge("meshd_config_last_reload_successful", "1: the proxy took all that was sent last, and every document "
                 "was accepted.", float(facts.reload_ok))  # fmt: skip
    yield _gauge(
        "meshd_documents_rejected", "Documents whose current version is not in force.", facts.documents_rejected
    )
    yield _gauge("meshd_proxy_up", "1: a proxy is attached.", float(facts.proxy_up))
    yield CounterMetricFamily("meshd_proxy_restarts", "Proxies that ended unasked.", value=facts.proxy_restarts)
    yield CounterMetricFamily("meshd_process_cpu_seconds", "CPU time of this meshd.", value=facts.process_cpu)
    build = InfoMetricFamily("meshd_build", "Version of this meshd.")
    build.add_metric((), {"version": facts.version, "node": facts.node})
    yield build


def _doubts(facts: Facts) -> Iterator["Metric"]:
    """What the registry says and this host does not believe: alarm on any of them above 0."""
    yield _gauge("meshd_registry_store_foreign", "1: the store is wiped, restored or another's.", float(facts.foreign))
    yield _stamps("meshd_registry_held", "1: keys below the prefix are in force although the store has lost them.",
                  "prefix", dict.fromkeys(facts.held, 1.0))  # fmt: skip
    braked = {service: float(count) for service, count in facts.braked.items()}
    yield _stamps("meshd_registry_brake_held", "Instances in use although too many vanished at once.", "service",
                  braked)  # fmt: skip
    damped = {service: float(count) for service, count in facts.damped.items()}
    yield _stamps("meshd_registry_damped", "Instances held back because they flap.", "service", damped)
    yield CounterMetricFamily(
        "meshd_registry_reconcile_differences",
        "Keys that a watch had missed, made good by a listing.",
        value=facts.reconcile_differences,
    )


def _snapshot(facts: Facts) -> Iterator["Metric"]:
    if facts.snapshot_age >= 0:
        yield _gauge("meshd_snapshot_age_seconds", "Age of the saved snapshot: since the registry was heard by then.",
                     facts.snapshot_age)  # fmt: skip
    yield _gauge("meshd_snapshot_in_use", "1: the registry was silent at the start, the saved snapshot is in force.",
                 float(facts.snapshot_in_use))  # fmt: skip
    yield _gauge(
        "meshd_snapshot_refused",
        "1: the saved snapshot is tampered, foreign or too old.",
        float(facts.snapshot_refused),
    )


def _without_version(denied: Iterable[Named]) -> Iterable[tuple[str, int]]:
    """Each edit of an intention is a new origin; as labels they would grow for ever."""
    totals: dict[str, int] = {}
    for one in denied:
        name = one.name.rpartition("@")[0] or one.name
        totals[name] = totals.get(name, 0) + one.count
    return sorted(totals.items())


def _named(name: str, text: str, label: str, counts: Iterable[tuple[str, int]]) -> "Metric":
    family = CounterMetricFamily(name, text, labels=(label,))
    for value, count in counts:
        family.add_metric((value,), count)
    return family


def _stamps(name: str, text: str, label: str, stamps: dict[str, float]) -> "Metric":
    family = GaugeMetricFamily(name, text, labels=(label,))
    for value, at in sorted(stamps.items()):
        family.add_metric((value,), at)
    return family


def _gauge(name: str, text: str, value: float) -> "Metric":
    return GaugeMetricFamily(name, text, value=value)
