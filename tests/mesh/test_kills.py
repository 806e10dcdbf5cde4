"""Whoever dies, requests go on: 200 requests a second over 8 kept connections, at least 5,000, none may fail."""

import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.traffic import Load
from tests.mesh.cluster import AppProcess, Cluster, Host, http, wait_for

pytestmark = [pytest.mark.mesh, pytest.mark.mesh_long, pytest.mark.timeout(240)]

RATE = 200
UPSTREAM = 9101


class Story:
    """Three hosts: a calls (and holds registry and authority), b and c serve."""

    def __init__(self, mesh: Cluster):
        self.mesh = mesh
        self.a = mesh.first_host("a")
        self.b, self.c = mesh.join("b", ["api"]), mesh.join("c", ["api"])
        web = mesh.app(self.a, "web", "web-1")
        self.api = {"api-1": self.serve(self.b, "api-1"), "api-2": self.serve(self.c, "api-2")}
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.a.address}:{UPSTREAM}/"
        wait_for("the first request passes on both hosts", self.both_serve, 20)

    def serve(self, host: Host, instance: str) -> AppProcess:
        app = self.mesh.app(host, "api", instance)
        check = {"HTTP": f"{app.url}/healthz", "Interval": "1s", "Timeout": "1s"}
        host.register({"Name": "api", "ID": instance, "Port": app.port, "Check": check, "Mesh": {"Protocol": "http"}})
        return app

    def both_serve(self) -> bool:
        return http("GET", self.url).status == 200 and all(app.requests() for app in self.api.values())

    def load(self, seconds: float) -> Load:
        return Load(self.url, rate=RATE, count=max(5000, int(RATE * seconds)))

    def under_way(self, count: int = 400) -> None:
        before = self.total()
        wait_for("load is under way", lambda: self.total() - before >= count, 20, every=0.1)

    def total(self) -> int:
        return sum(len(app.requests()) for app in self.api.values())


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    with Cluster(tmp_path) as mesh:
        yield Story(mesh)


def none_failed(load: Load, seconds: float = 150) -> None:
    report = load.result(seconds)
    assert report["failed"] == 0, report
    assert isinstance(report["ok"], int)
    assert report["ok"] >= 5000


def test_sigkill_of_a_meshd(story: Story) -> None:
    load = story.load(25)
    story.under_way()
    proxies = story.b.proxy_pids()
    story.b.kill()
    time.sleep(3)  # sleep: the outage itself, as long as a supervisor's restart delay
    story.b.start()
    none_failed(load)
    assert story.b.proxy_pids() == proxies


def test_sigstop_of_a_meshd_for_40_s_with_leases_of_10_s(story: Story) -> None:
    load = story.load(50)
    story.under_way()
    story.b.pause()
    lease = f"{story.a.api}/v1/kv/mesh/v1/leases/b"
    paused = time.monotonic()
    wait_for("its lease expires", lambda: http("GET", lease).status == 404, 30, every=0.5)
    time.sleep(max(0.0, paused + 40 - time.monotonic()))  # sleep: the freeze itself
    before = len(story.api["api-1"].requests())
    story.under_way()
    assert len(story.api["api-1"].requests()) > before, "a suspect instance that answers keeps its traffic"
    story.b.resume()
    none_failed(load)


def test_sigkill_of_one_app_instance(story: Story) -> None:
    load = story.load(25)
    story.under_way()
    story.api["api-1"].signal(signal.SIGKILL)
    none_failed(load)


def test_sigkill_of_the_registry_host_s_meshd_for_60_s(story: Story) -> None:
    load = story.load(70)
    story.under_way()
    story.a.kill()
    time.sleep(60)  # sleep: the outage itself
    story.a.start()
    none_failed(load)
