"""The registry comes back empty: calls and policy stay as they were until an operator adopts the store."""

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

UPSTREAM = 9101
ALLOW = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}


class Story:
    """Host a: registry, authority and `web`, which calls `api` on b."""

    def __init__(self, mesh: Cluster) -> None:
        self.a, self.b = mesh.first_host("a"), mesh.join("b", ["api"])
        web, api = mesh.app(self.a, "web", "web-1"), mesh.app(self.b, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        self.a.apply(ALLOW)
        self.url = f"http://{self.a.address}:{UPSTREAM}/"
        wait_for("the call passes", lambda: self.status() == 200, 20)
        for host in (self.a, self.b):
            wait_for("on disk", lambda at=host: b"intentions" in (at.data_dir / "snapshot").read_bytes(), 15)

    def status(self) -> int:
        return http("GET", self.url).status

    def wipe(self) -> None:
        """The registry's host loses its database."""
        self.a.kill()
        for name in os.listdir(self.a.data_dir):
            if name.startswith("registry.sqlite"):
                (self.a.data_dir / name).unlink()
        self.a.start()


def registry(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)["registry"]
    return found


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        yield Story(mesh)


def test_a_wiped_registry_takes_nothing_away_until_adopted(story: Story) -> None:
    story.wipe()
    for host in (story.a, story.b):
        wait_for("the store is in doubt", lambda at=host: "wiped" in registry(at)["foreign"], 20)
        assert "meshctl registry adopt" in host.meshctl("status", check=False).stdout
        assert "meshd_registry_store_foreign 1.0" in host.metrics()
    assert story.status() == 200
    story.b.kill()
    story.b.start()
    wait_for("in doubt after a restart too", lambda: "wiped" in registry(story.b)["foreign"], 20)
    assert story.status() == 200
    done = story.b.meshctl("registry", "adopt", "--yes", check=False)
    assert done.returncode == 1, "a joined host may not say which store is ours"
    done = story.a.meshctl("registry", "adopt", "--yes")
    assert "let go: document service-intentions/api" in done.stdout
    wait_for("adopted everywhere", lambda: not registry(story.b)["foreign"], 20)
    wait_for("the intention is gone, so the call is denied", lambda: story.status() == 403, 20)
    story.a.apply(ALLOW)
    wait_for("allowed anew", lambda: story.status() == 200, 20)
