"""etcd has lost its majority, two of three members, under load: nothing is believed that nobody vouches for."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.etcd_server import Server, older, running_cluster
from tests.mesh.cluster import Cluster, http, wait_for
from tests.mesh.three_hosts import ThreeHosts, router
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(240)]

KEY = "/v1/kv/mesh/v1/policy/service-router/api?raw"


class Three:
    """Three members, without accounts and TLS, as the registry of `ThreeHosts`."""

    roles = ("ca",)

    def __init__(self, members: list[Server]) -> None:
        self.members = members

    def config(self, host: str) -> dict[str, object]:
        return {"Kind": "etcd", "Addresses": [member.address for member in self.members]}


@pytest.fixture
def members() -> Iterator[list[Server]]:
    tool("meshd-proxy")
    with running_cluster(older()) as started:
        yield started


@pytest.fixture
def story(members: list[Server], tmp_path: Path) -> Iterator[ThreeHosts]:
    with Cluster(tmp_path) as mesh:
        yield ThreeHosts(mesh, Three(members))


def test_requests_pass_writes_fail_at_once_and_nothing_old_is_read(story: ThreeHosts, members: list[Server]) -> None:
    load = story.load(30)
    story.under_way()
    for member in members[1:]:
        member.stop()
    ages = {}
    for host in story.hosts:
        wait_for(f"{host.name} notices", lambda at=host: not story.reachable(at), 30, every=0.2)  # type: ignore[misc]  # bound here
        ages[host.name] = story.status(host)["registry"]["last_event_age"]
        assert "NOT REACHABLE, serving last known good" in host.meshctl("status", check=False).stdout
    refused = story.a.meshctl("apply", "-f", "-", stdin="Kind: mesh\n", check=False)
    assert refused.returncode == 75
    assert "no leader" in refused.stderr
    read = http("GET", story.a.api + KEY, timeout=20)
    assert read.status == 503, "a member without a leader may be behind: it is not asked"
    assert story.routed_by() == "first"
    for host in story.hosts:
        registry = story.status(host)["registry"]
        assert registry["last_event_age"] > ages[host.name]
    for member in members[1:]:
        member.start(ready=False)
    for member in members:
        member.wait_ready()
    story.all_well()
    story.a.apply(router("second"), wait="30s")
    story.in_force("second")
    report = load.result()
    assert report["failed"] == 0, report
