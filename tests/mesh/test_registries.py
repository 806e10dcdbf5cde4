"""A service moves from one registry to another and back under load: no request fails, no identity is made anew."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.demo.traffic import Load
from tests.etcd_server import Server, etcd_server, older
from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(180)]

UPSTREAM = 9101
RATE = 100


class Story:
    """Host a: home registry, authority and `web`, which calls `api` on b and c; an etcd beside."""

    def __init__(self, mesh: Cluster, etcd: Server) -> None:
        self.mesh, self.etcd = mesh, etcd
        beside = [etcd.settings() | {"Name": "etcd"}]
        self.a = mesh.first_host("a", Registries=beside)
        self.b, self.c = (mesh.join(name, ["api"], Registries=beside) for name in "bc")
        self.web = mesh.app(self.a, "web", "web-1")
        self.apis = {"api-1": mesh.app(self.b, "api", "api-1"), "api-2": mesh.app(self.c, "api", "api-2")}
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": self.web.port, "Mesh": {"Upstreams": upstreams}})
        for host, app in zip((self.b, self.c), self.apis.values(), strict=True):
            host.register({"Name": "api", "ID": app.instance, "Port": app.port})
        self.a.apply({"Kind": "service-defaults", "Name": "api", "Protocol": "http"})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.a.address}:{UPSTREAM}/"
        wait_for("both serve", self.both_serve, 20)

    def both_serve(self) -> bool:
        return http("GET", self.url).status == 200 and all(app.requests() for app in self.apis.values())

    def serials(self) -> dict[str, str]:
        """Of the service certificates that b and c hold."""
        rows = [
            row for host in (self.b, self.c) for row in json.loads(host.meshctl("cert", "list", "-o", "json").stdout)
        ]
        return {row["name"]: row["serial"] for row in rows}

    def policies(self) -> dict[str, str]:
        """Digest of each document but that which says where a service is."""
        rows = json.loads(self.a.meshctl("get", "-o", "json").stdout)
        return {f"{row['kind']}/{row['name']}": row["digest"] for row in rows if row["kind"] != "service-defaults"}

    def in_etcd(self) -> set[str]:
        return set(self.etcd.etcdctl("get", "--prefix", "--keys-only", "mesh/v1/services/").split())

    def migrate(self, goal: str) -> None:
        self.a.meshctl("registry", "migrate", "--service", "api", "--to", goal, "--yes", "--timeout=20s")

    def load(self, count: int) -> Load:
        return Load(self.url, rate=RATE, count=count)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    directory = tmp_path_factory.mktemp("registries")
    with Cluster(directory) as mesh:
        etcd = etcd_server(older(), directory / "etcd", host=f"{mesh.net}.100").start()
        try:
            yield Story(mesh, etcd)
            mesh.close()
        finally:
            etcd.stop()


def rows(host: Host) -> Mapping[str, Any]:
    return {row["name"]: row for row in json.loads(host.meshctl("registry", "list", "-o", "json").stdout)}


def test_a_service_moves_there_and_back_under_load(story: Story) -> None:
    before = story.serials(), story.policies()
    load = story.load(600)
    story.migrate("etcd")
    keys = {f"mesh/v1/services/api/{node}/{name}" for node, name in (("b", "api-1"), ("c", "api-2"))}
    assert story.in_etcd() == keys
    listed = rows(story.a)
    assert (listed["home"]["instances"], listed["etcd"]["instances"]) == (1, 2)
    done = story.a.meshctl("registry", "diff", "home", "etcd", check=False)
    assert (done.returncode, done.stdout.count("only in etcd")) == (1, 2)
    story.migrate("home")
    assert story.in_etcd() == set()
    report = load.result()
    assert report["failed"] == 0, report
    assert (story.serials(), story.policies()) == before
    assert "Protocol: http" in story.a.meshctl("get", "service-defaults/api").stdout
