"""Two hosts, one call: joined with a token, registered over HTTP, identities on both ends, policy by key."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.cluster import AppProcess, Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

UPSTREAM = 9101
ALLOW = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}
DENY = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "deny"}]}


class Story:
    """Host a (registry, authority) with `web`, host b with `api`."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a: Host = mesh.first_host("a")
        self.b: Host = mesh.join("b", ["api"])
        self.web: AppProcess = mesh.app(self.a, "web", "web-1")
        self.api: AppProcess = mesh.app(self.b, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": self.web.port, "Mesh": {"Upstreams": upstreams}})
        self.b.register({"Name": "api", "ID": "api-1", "Port": self.api.port, "Mesh": {"Protocol": "http"}})
        self.url = f"http://{self.a.address}:{UPSTREAM}/hello"

    def status(self) -> int:
        return http("GET", self.url).status

    def becomes(self, status: int) -> None:
        wait_for(f"status {status}", lambda: self.status() == status, 20)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("smoke")) as mesh:
        made = Story(mesh)
        made.a.apply({"Kind": "mesh", "ExplainDenials": True})
        made.a.apply(ALLOW)
        made.becomes(200)
        yield made


def test_the_call_passes_and_the_app_sees_who_calls(story: Story) -> None:
    answer = http("GET", story.url)
    assert answer.json()["instance"] == "api-1"
    assert dict(story.api.requests()[-1]["headers"])["x-meshd-source"] == "spiffe://mesh.local/svc/web/n/a/i/web-1"


def test_a_denied_call_names_the_intention_and_a_key_write_lifts_it(story: Story) -> None:
    story.a.apply(DENY)
    story.becomes(403)
    answer = http("GET", story.url)
    assert b"service-intentions/api#Sources[0]" in answer.body
    before = len(story.api.requests())
    assert story.status() == 403
    assert len(story.api.requests()) == before  # the app never saw it
    done = story.a.meshctl("explain", "--from", "web", "--to", "api", check=False)
    assert done.returncode == 1
    assert "service-intentions/api#Sources[0]" in done.stdout
    key = "/v1/kv/mesh/v1/policy/service-intentions/api"
    assert http("PUT", story.a.api + key, body=json.dumps(ALLOW).encode()).status == 200
    story.becomes(200)


def test_a_bad_document_changes_nothing_and_is_named_everywhere(story: Story) -> None:
    key = "/v1/kv/mesh/v1/policy/service-intentions/api"
    http("PUT", story.a.api + key, body=b"Sources: [{Nam: web}]")
    wait_for("named", lambda: "service-intentions/api" in story.b.meshctl("status", check=False).stdout, 10)
    assert story.status() == 200
    assert "meshd_config_last_reload_successful 0.0" in story.b.metrics()
    assert "document refused" in story.b.log.read_text()
    story.a.apply(ALLOW)
    wait_for("healed", lambda: "meshd_config_last_reload_successful 1.0" in story.b.metrics(), 10)


def test_metrics_count_the_calls_on_both_sides(story: Story) -> None:
    assert story.status() == 200
    source, destination = story.a.metrics(), story.b.metrics()
    assert 'meshd_requests_total{code="200",destination="api",flags="",method="GET",reporter="source"' in source
    assert 'reporter="destination",source="web"' in destination
    assert 'meshd_endpoints{service="api",state="passing"} 1.0' in source


def test_a_killed_meshd_is_not_noticed_and_its_proxy_is_taken_over(story: Story) -> None:
    pids = story.b.proxy_pids()
    story.b.kill()
    assert story.status() == 200
    story.b.start()
    assert story.b.proxy_pids() == pids
    assert "re-attached" in story.b.meshctl("status", check=False).stdout
    assert story.status() == 200


def test_an_app_that_fails_its_check_gets_no_requests(story: Story) -> None:
    check = {"HTTP": f"{story.api.url}/healthz", "Interval": "200ms", "Timeout": "1s"}
    registration = {"Name": "api", "ID": "api-1", "Port": story.api.port, "Mesh": {"Protocol": "http"}}
    story.b.register(registration | {"Check": check})
    story.becomes(200)
    story.api.control(healthy=False)
    story.becomes(503)
    story.api.control(healthy=True)
    story.becomes(200)


def test_a_host_that_stops_leaves_on_purpose(story: Story) -> None:
    assert story.b.stop() == 0
    assert story.b.proxy_pids() == []
    rows = json.loads(story.a.meshctl("services", "-o", "json").stdout)
    api = next(row for row in rows if row["name"] == "api")
    assert (api["passing"], api["suspect"], api["draining"]) == (0, 0, 1)
    assert story.status() == 503
    story.b.start()
    story.becomes(200)


def test_files_of_identities_are_private(story: Story) -> None:
    found = [path for path in Path(story.b.data_dir, "identity").rglob("*") if path.is_file()]
    assert any(path.name == "api-1.key" for path in found)
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
