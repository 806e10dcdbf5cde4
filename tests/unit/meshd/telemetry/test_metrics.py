"""`/metrics`: every name and label of the contract, cumulative buckets, bounded labels."""

import json
from pathlib import Path

import msgspec

from meshd.telemetry.metrics import Facts, render
from policies.compiled import BUCKETS, Duration, Named, ProbeCount, RequestCount, Stats

GOLDEN = Path(__file__).parents[3] / "golden" / "frames_from_proxy.json"
FACTS = Facts(
    version="1",
    node="a",
    endpoints={("api", "passing"): 2},
    certificates={"node": 5.0},
    last_event={"mesh/v1/services/": 7.0},
    staleness={"api": 1.5},
    snapshot_age=3.0,
    damped={"api": 1},
    reconcile_differences=2,
)


def golden() -> Stats:
    frame = next(frame for frame in json.loads(GOLDEN.read_text()) if frame["type"] == "stats")
    return msgspec.convert(frame, Stats)


def lines(stats: Stats | None, facts: Facts = FACTS) -> list[str]:
    return render(stats, facts).decode().splitlines()


def test_every_metric_of_the_contract_is_there() -> None:
    page = lines(golden())
    for line in (
        'meshd_requests_total{code="200",destination="api",flags="",method="GET",reporter="source",source="web"} 5.0',
        'meshd_request_duration_seconds_sum{destination="api",reporter="source",source="web"} 0.25',
        'meshd_tcp_connections_opened_total{destination="db",reporter="destination",source="web"} 2.0',
        'meshd_tcp_connections_closed_total{destination="db",reporter="destination",source="web"} 1.0',
        'meshd_tcp_connections_active{destination="db",reporter="destination",source="web"} 1.0',
        'meshd_upstream_attempts_total{destination="api",outcome="success",source="web"} 5.0',
        'meshd_retry_budget_exhausted_total{destination="api"} 1.0',
        'meshd_endpoints{service="api",state="passing"} 2.0',
        'meshd_denied_total{intention="service-intentions/api#Sources[1]"} 2.0',
        'meshd_certificate_expiry_timestamp_seconds{name="node"} 5.0',
        'meshd_registry_last_event_timestamp_seconds{prefix="mesh/v1/services/"} 7.0',
        'meshd_registry_staleness_seconds{service="api"} 1.5',
        'meshd_registry_damped{service="api"} 1.0',
        "meshd_registry_reconcile_differences_total 2.0",
        "meshd_snapshot_age_seconds 3.0",
        "meshd_snapshot_in_use 0.0",
        "meshd_snapshot_refused 0.0",
        "meshd_config_last_reload_successful 1.0",
        'meshd_build_info{node="a",version="1"} 1.0',
    ):
        assert line in page, line


def test_probes_of_suspects_are_counted_by_result() -> None:
    page = lines(msgspec.structs.replace(golden(), probes=(ProbeCount(service="api", result="bad", count=3),)))
    assert 'meshd_suspect_probes_total{destination="api",result="bad"} 3.0' in page


def test_buckets_are_cumulative_and_end_in_infinity() -> None:
    counts = tuple(range(1, len(BUCKETS) + 2))
    one = Duration(reporter="source", source="web", destination="api", sum=1.0, buckets=counts)
    page = lines(msgspec.structs.replace(golden(), durations=(one,)))
    values = [float(line.rsplit(" ", 1)[1]) for line in page if "_seconds_bucket" in line]
    assert values == [sum(counts[: n + 1]) for n in range(len(counts))]
    assert any('le="+Inf"' in line for line in page)
    assert any(line.endswith(f" {sum(counts)}.0") and "_seconds_count" in line for line in page)


def test_unknown_methods_become_other_and_add_up() -> None:
    def count(method: str) -> RequestCount:
        return RequestCount(
            reporter="source", source="web", destination="api", method=method, code=200, flags="", count=2
        )

    page = lines(msgspec.structs.replace(golden(), requests=(count("BREW"), count("PROPFIND"))))
    assert next(line for line in page if 'method="OTHER"' in line).endswith(" 4.0")
    assert not any("BREW" in line for line in page)


def test_versions_of_an_intention_are_one_label() -> None:
    denied = (Named(name="service-intentions/api#@5", count=1), Named(name="service-intentions/api#@6", count=2))
    page = lines(msgspec.structs.replace(golden(), denied=denied))
    assert 'meshd_denied_total{intention="service-intentions/api#"} 3.0' in page


def test_without_a_proxy_meshds_own_metrics_remain() -> None:
    page = lines(None)
    assert "meshd_proxy_up 0.0" in page
    assert not any(line.startswith("meshd_requests") for line in page)


def test_label_values_are_escaped() -> None:
    page = lines(None, with_certificates(certificates={'a"\n\\': 1.0}))
    assert 'meshd_certificate_expiry_timestamp_seconds{name="a\\"\\n\\\\"} 1.0' in page


def with_certificates(certificates: dict[str, float]) -> Facts:
    return Facts(version="1", node="a", certificates=certificates)


def test_without_a_snapshot_there_is_no_age_to_alarm_on() -> None:
    page = lines(None, Facts(version="1", node="a", snapshot_refused=True))
    assert not [line for line in page if line.startswith("meshd_snapshot_age_seconds")]
    assert "meshd_snapshot_refused 1.0" in page
