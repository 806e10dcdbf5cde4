"""A host follows what it calls: new targets under load, what it does not call stays away, people still see all of it.

Host a holds the authority (and the embedded registry); `web` on b calls `api` on c, which serves others too.
"""

import json
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
import yaml

from tests.demo.traffic import Load
from tests.etcd_server import Server, older, running_etcd
from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.mesh.witness import samples
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

UPSTREAM = 9101
TARGETS = ("next", "later", "last")
STALENESS = "meshd_registry_staleness_seconds"


class Story:
    def __init__(self, mesh: Cluster, etcd: Server | None) -> None:
        registry = {"Registry": etcd.settings()} if etcd is not None else {}
        if etcd is None:
            self.a = mesh.first_host("a")
        else:
            self.a = mesh.host("a", Roles=["ca"], **registry)
            mesh.init_authority(self.a)
            self.a.start()
        services = ("api", *TARGETS, "extra", "beside")
        self.b, self.c = mesh.join("b", ["web"], **registry), mesh.join("c", services, **registry)
        web = mesh.app(self.b, "web", "web-1")
        for name in services:
            app = mesh.app(self.c, name, f"{name}-1", version=name)
            self.c.register({"Name": name, "ID": f"{name}-1", "Port": app.port, "Mesh": {"Protocol": "http"}})
        self.web_port = web.port
        self.calls("api")
        allow = {"Kind": "service-intentions", "Name": "*", "Sources": [{"Name": "web", "Action": "allow"}]}
        self.apply(allow, {"Kind": "service-defaults", "Name": "beside", "LocalConnectTimeout": "2s"})
        self.url = self.at(UPSTREAM)
        wait_for("the call passes", lambda: http("GET", self.url).status == 200, 20)

    def calls(self, *services: str) -> None:
        upstreams = [{"Service": name, "LocalBindPort": UPSTREAM + n} for n, name in enumerate(services)]
        body = {"Name": "web", "ID": "web-1", "Port": self.web_port, "Mesh": {"Upstreams": upstreams}}
        assert self.b.register(body).status == 200

    def at(self, port: int) -> str:
        return f"http://{self.b.address}:{port}/"

    def apply(self, *documents: dict[str, object]) -> None:
        self.a.meshctl("apply", "-f", "-", "--wait", stdin=yaml.safe_dump_all(documents, sort_keys=False))

    def version(self) -> str:
        found: str = http("GET", self.url).json()["version"]
        return found


@pytest.fixture(scope="module", params=["embedded", "etcd"])
def story(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with ExitStack() as stack:
        etcd = stack.enter_context(running_etcd(older())) if request.param == "etcd" else None
        yield Story(stack.enter_context(Cluster(tmp_path_factory.mktemp("subs"))), etcd)


def followed(host: Host) -> set[str]:
    """Services whose staleness a host measures: those that it follows."""
    return {
        line.split('service="')[1].split('"')[0]
        for line in host.metrics().splitlines()
        if line.startswith(STALENESS + "{")
    }


def test_a_splitter_that_gains_targets_fails_no_request(story: Story) -> None:
    """Nobody here has listed the new target when the document arrives."""
    load = Load(story.url, rate=200, count=2000)
    try:
        for target in TARGETS:
            assert target not in followed(story.b)
            story.apply({"Kind": "service-splitter", "Name": "api", "Splits": [{"Weight": 100, "Service": target}]})
            assert story.version() == target
        story.a.meshctl("delete", "service-splitter/api")
        wait_for("back at the default", lambda: story.version() == "api")
        report = load.result()
    finally:
        load.stop()
    assert report["failed"] == 0, report


def test_a_new_upstream_is_called_from_its_first_request_on(story: Story) -> None:
    story.calls("api", "extra")
    try:
        answers = wait_for("its port is open", lambda: [http("GET", story.at(UPSTREAM + 1)).status for _ in range(20)])
        assert set(answers) == {200}
    finally:
        story.calls("api")


def test_what_a_host_does_not_call_stays_away_from_it(story: Story) -> None:
    assert "beside" not in followed(story.b)
    assert {"web", "api"} <= followed(story.b)
    assert samples(story.b, "meshd_endpoints", service="beside") == 0


def test_people_still_see_the_whole_mesh_from_every_host(story: Story) -> None:
    names = {row["name"] for row in json.loads(story.b.meshctl("services", "-o", "json").stdout)}
    assert names >= {"web", "api", "beside", *TARGETS}
    rows = json.loads(story.b.meshctl("get", "-o", "json").stdout)
    states = {f"{row['kind']}/{row['name']}": row["state"] for row in rows}
    assert states["service-defaults/beside"] == "elsewhere"
    view = json.loads(story.b.meshctl("service", "beside", "-o", "json").stdout)
    assert [row["name"] for row in view["endpoints"]] == ["beside/c/beside-1"]
    assert {"LocalConnectTimeout": "2s"}.items() <= {one["name"]: one["value"] for one in view["settings"]}.items()
    found = json.loads(story.b.meshctl("explain", "--from", "web", "--to", "beside", "-o", "json").stdout)
    assert found["verdict"] == "allow"
    status = json.loads(story.b.meshctl("status", "-o", "json").stdout)
    assert {row["name"] for row in status["nodes"]} == {"a", "b", "c"}
    assert status["services"] == len(names)
    answer = http("GET", f"{story.b.api}/v1/health/service/beside")
    assert [one["Service"]["ID"] for one in answer.json()] == ["beside-1"]
    assert "beside" not in followed(story.b), "looking is not subscribing"
