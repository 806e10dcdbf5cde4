"""The admin port: metrics, liveness, readiness, status."""

from tests.unit.meshd.conftest import Single

METRICS = (
    "meshd_endpoints",
    "meshd_certificate_expiry_timestamp_seconds",
    "meshd_registry_last_event_timestamp_seconds",
    "meshd_config_last_reload_successful",
    "meshd_build_info",
)


async def test_metrics_are_text_with_the_hosts_own(single: Single) -> None:
    status, page = await single.call("GET", "/metrics", admin=True)
    assert status == 200
    for name in METRICS:
        assert f"# HELP {name} ".encode() in page
    assert b"meshd_proxy_up 1.0" in page


async def test_a_proxy_that_is_gone_does_not_take_metrics_along(single: Single) -> None:
    assert single.agent.dataplane.link is not None
    single.agent.dataplane.link.close()
    status, page = await single.call("GET", "/metrics", admin=True)
    assert status == 200
    assert b"meshd_build_info" in page


async def test_ready_and_why_not(single: Single) -> None:
    assert await single.call("GET", "/readyz", admin=True) == (200, b"ok\n")
    single.agent.draining = True
    assert await single.call("GET", "/readyz", admin=True) == (503, b"draining\n")
    assert (await single.call("GET", "/livez", admin=True))[0] == 200


async def test_status_shows_the_settings_in_force(single: Single) -> None:
    _, body = await single.call("GET", "/status", admin=True)
    assert body["settings"]["LeaseTTL"] == 10.0
    assert body["ready"]
