"""What breaks, one line of the architecture's section 6 after the other, and where each is tested.

| what breaks | tested by |
|---|---|
| registry down for days | unit/registry/ca/test_authority.py::test_days_without_a_store |
| | unit/registry/ca/test_authority.py::test_offline_renewal_never_shortens_and_adds_at_most_a_day |
| | unit/registry/ca/test_authority.py::test_roles_are_renewed_without_the_store |
| | mesh/test_kills.py::test_sigkill_of_the_registry_host_s_meshd_for_60_s |
| registry and all authorities down | unit/meshd/control/test_identity.py::test_a_restart_serves_from_disk |
| | unit/meshd/control/test_identity.py::test_an_authority_that_is_away_is_an_error_only_once_while_life_is_left |
| | mesh/test_cold_start.py::test_calling_and_serving_host_start_from_disk_while_the_registry_stays_down |
| new hosts wait | mesh/test_bad_input.py::test_an_authority_that_is_away_is_waited_for |
| registry wiped | mesh/test_wiped_registry.py::test_a_wiped_registry_takes_nothing_away_until_adopted |
| | mesh/test_adopt.py::test_a_wiped_store_is_held_until_the_host_with_the_role_ca_adopts_it |
| | mesh/test_chaos.py::test_the_registry_is_killed_frozen_wiped_and_restored_under_load |
| meshd killed | mesh/test_kills.py::test_sigkill_of_a_meshd |
| meshd killed or frozen for 120 s | mesh/test_failures.py::test_a_meshd_is_away_for_120_s |
| proxy killed | mesh/test_failures.py::test_a_killed_proxy_is_started_again_and_said |
| | unit/meshd/dataplane/test_supervise.py::test_a_killed_proxy_is_started_again |
| bad policy | mesh/test_bad_input.py::test_a_bad_document_written_to_its_key_changes_nothing_and_is_named_everywhere |
| | mesh/test_bad_input.py::test_a_first_document_that_is_bad_denies |
| half-started registry | unit/registry/test_fold.py::test_an_empty_answer_keeps_everything_as_suspect |
| clock skew | unit/registry/ca/test_rotation.py::test_clock_problems_print_both_clocks |
| | unit/registry/ca/test_client.py::test_an_authority_with_an_expired_certificate_shows_both_clocks |
| | unit/registry/ca/test_client.py::test_a_clock_behind_says_so |
| disk full, of a host | mesh/test_full_disks.py::test_a_hosts_disk_is_full |
| | unit/registry/ca/test_authority.py::test_a_full_disk_stops_offline_renewals_but_no_refusal |
| disk full, of a registry | mesh/test_full_disks.py::test_the_embedded_registrys_disk_is_full |
| | mesh/test_full_disks.py::test_etcds_quota_is_used_up |
| registry without a leader | mesh/test_no_leader.py::test_requests_pass_writes_fail_at_once_and_nothing_old_is_read |

No test, because there is nothing yet that it could be about: a telemetry collector (nothing is sent to one).
"""

import json
import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.mesh.registries import running
from tests.mesh.three_hosts import ThreeHosts, router

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(300)]

AWAY = 120.0  # seconds


@pytest.fixture
def story(tmp_path: Path) -> Iterator[ThreeHosts]:
    with Cluster(tmp_path) as mesh, running("embedded", mesh) as registry:
        yield ThreeHosts(mesh, registry)


@pytest.mark.mesh_long
def test_a_meshd_is_away_for_120_s(story: ThreeHosts) -> None:
    """b's is frozen and c's is killed, at the same time: nothing answers but the proxies and the apps."""
    load = story.load(AWAY + 10)
    story.under_way()
    story.b.pause()
    story.c.kill()
    begun = time.monotonic()
    story.a.meshctl(
        "apply", "-f", "-", "--wait=5s", stdin=json.dumps(router("second")), check=False
    )  # two hosts are silent
    story.in_force("second")  # a decides, and a runs
    time.sleep(max(0.0, begun + AWAY - time.monotonic()))  # sleep: the outage itself
    story.b.resume()
    story.c.start()
    story.all_well()
    story.a.apply(router("third"), wait="30s")
    report = load.result()
    assert report["failed"] == 0, report


def test_the_log_says_lost_and_back_once(story: ThreeHosts) -> None:
    """And the metric says for how long, service by service."""
    story.registry.kill()
    wait_for("b notices", lambda: not story.reachable(story.b), 30)
    first = staleness(story.b)
    wait_for("it grows", lambda: staleness(story.b) > first, 10)
    assert count(story.b, "registry lost; the last state stays") == 1
    story.registry.begin()
    story.all_well()
    assert count(story.b, "registry lost; the last state stays") == 1
    assert count(story.b, "registry answers") == 1
    wait_for("it is fresh", lambda: staleness(story.b) < first, 30)


def count(host: Host, event: str) -> int:
    return host.log.read_text().count(f'"event": "{event}"')


def staleness(host: Host) -> float:
    line = next(line for line in host.metrics().splitlines() if 'staleness_seconds{service="api"}' in line)
    return float(line.rsplit(" ", 1)[1])


def test_a_killed_proxy_is_started_again_and_said(story: ThreeHosts) -> None:
    before = story.b.proxy_pids()
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    wait_for("another proxy runs", lambda: story.b.proxy_pids() and story.b.proxy_pids() != before, 20)
    served = len(story.apis["api-b"].requests())
    wait_for(
        "b serves again", lambda: http("GET", story.url).status and len(story.apis["api-b"].requests()) > served, 60
    )
    assert "meshd_proxy_restarts_total 1.0" in story.b.metrics()
    assert "proxy ended" in story.b.log.read_text()
