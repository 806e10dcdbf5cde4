"""A host dies, and another service's host gets its address: calls that are meant for the dead one never reach it."""

import signal
from collections.abc import Iterator
from os import kill
from pathlib import Path

import pytest

from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(90)]

UPSTREAM = 9101
ALLOW = [
    {"Kind": "service-intentions", "Name": name, "Sources": [{"Name": "web", "Action": "allow"}]}
    for name in ("api", "other")
]


class Story:
    """`web` on a (registry and authority, too) calls `api` on b."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a, self.b = mesh.first_host("a"), mesh.join("b", ["api"])
        web, api = mesh.app(self.a, "web", "web-1"), mesh.app(self.b, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        for document in ALLOW:
            self.a.apply(document)
        wait_for("the call passes", lambda: self.status() == 200, 20)

    def status(self) -> int:
        return http("GET", f"http://{self.a.address}:{UPSTREAM}/").status

    def power_cut(self, host: Host) -> None:
        host.kill()
        for pid in host.proxy_pids():
            kill(pid, signal.SIGKILL)
        wait_for("no proxy runs", lambda: not host.proxy_pids(), 10)

    def successor(self) -> Host:
        """A new host with the address of b."""
        address = self.b.address
        where = {"Loopback": address, "Bind": {"Inbound": address, "Peer": address}, "Advertise": {"Address": address}}
        host = self.mesh.joining("c", ["other"], **where)
        host.address = address
        return host.start()


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        yield Story(mesh)


def test_a_call_never_reaches_the_service_that_has_the_address_now(story: Story) -> None:
    story.power_cut(story.b)
    successor = story.successor()
    other = story.mesh.app(successor, "other", "other-1")
    successor.register({"Name": "other", "ID": "other-1", "Port": other.port, "Mesh": {"Protocol": "http"}})
    wait_for("the other service is known", lambda: "other-1" in story.a.meshctl("service", "other").stdout, 10)
    # the registry still names b at this address, and its lease has not ended yet
    statuses = [story.status() for _ in range(10)]
    http("DELETE", f"{story.a.api}/v1/kv/mesh/v1/leases/b")
    wait_for("in doubt", lambda: "suspect" in story.a.meshctl("service", "api").stdout, 10)
    statuses += [story.status() for _ in range(10)]
    assert set(statuses) == {503}
    assert other.requests() == []
    wait_for("its proof is bad", lambda: "suspect, bad" in story.a.meshctl("service", "api").stdout, 15)
