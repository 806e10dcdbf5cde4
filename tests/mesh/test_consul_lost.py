"""What happens to a mesh whose Consul loses everything, or is not there when a host starts: nothing, for requests."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consul_server import ConsulServer
from tests.demo.traffic import Load
from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(180)]

PORT = 9101


class Story:
    """web on a (authority) calls two instances of api on b; Consul without ACLs: a wiped one has lost its tokens."""

    def __init__(self, mesh: Cluster, consul: ConsulServer) -> None:
        self.mesh, self.consul = mesh, consul
        self.a = mesh.host("a", Roles=["ca"], Registry=consul.settings())
        mesh.init_authority(self.a)
        self.a.start()
        self.b = mesh.join("b", ["api"], Registry=consul.settings())
        web = mesh.app(self.a, "web", "web-1")
        upstreams = [{"Service": "api", "LocalBindPort": PORT}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.apis = [mesh.app(self.b, "api", f"api-{n}") for n in (1, 2)]
        for app in self.apis:
            self.b.register({"Name": "api", "ID": app.instance, "Port": app.port, "Mesh": {"Protocol": "http"}})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.a.address}:{PORT}/hello"
        wait_for("the first request passes", lambda: http("GET", self.url).status == 200, 20)

    def status(self, host: Host) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)
        return found

    def total(self) -> int:
        return sum(len(app.requests()) for app in self.apis)


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        consul = ConsulServer(tmp_path / "consul", f"{mesh.net}.100", acl=False, tls=False)
        consul.start()
        try:
            yield Story(mesh, consul)
            mesh.close()
        finally:
            consul.kill()


def test_a_wiped_consul_under_load_fails_no_request_and_is_filled_again(story: Story) -> None:
    load = Load(story.url, rate=200, count=5000)
    before = story.total()
    wait_for("load is under way", lambda: story.total() - before > 300, 20, every=0.1)
    story.consul.kill()
    story.consul.wipe()
    story.consul.start()
    wait_for(
        "both instances are put again",
        lambda: len(story.consul.call("GET", "/v1/health/service/api?passing")) == 2,
        30,
    )
    wait_for("leases too", lambda: len(story.consul.call("GET", "/v1/kv/mesh/v1/leases/?keys")) == 2, 30)
    report = load.result()
    assert report["failed"] == 0, report
    assert report["ok"] == 5000
    held = [one for one in story.status(story.b)["warnings"] if "registry adopt" in one]
    assert held, "the policy that vanished is kept, and said to be"


def test_hosts_start_while_consul_is_away(story: Story) -> None:
    """The authority too: it has its keys, and publishes itself when its store is back."""
    story.consul.end()
    for host in (story.b, story.a):
        host.kill()
        host.start(ready=False)
        wait_for("it answers", lambda host=host: story.status(host)["node"], 20)  # type: ignore[misc]  # bound here
    assert http("GET", story.url).status == 200, "the proxies carry on"
    story.consul.start()
    for host in (story.a, story.b):
        host.wait_ready()
        wait_for("the registry is heard", lambda host=host: story.status(host)["registry"]["reachable"], 30)  # type: ignore[misc]  # bound here
    wait_for("requests pass", lambda: http("GET", story.url).status == 200, 20)
