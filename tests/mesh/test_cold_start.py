"""A power cut of the whole mesh, and the registry's host never comes back: calls pass from signed snapshots."""

import json
import os
import shutil
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from tests.mesh.cluster import Cluster, Failed, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

UPSTREAM = 9101


class Story:
    """Host a holds registry and authority and nothing else; `web` on b calls `api` on c."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a = mesh.first_host("a")
        self.b, self.c = mesh.join("b", ["web"]), mesh.join("c", ["api"])
        web, api = mesh.app(self.b, "web", "web-1"), mesh.app(self.c, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.b.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.c.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.b.address}:{UPSTREAM}/"
        wait_for("the call passes", lambda: self.status() == 200, 20)
        for host in (self.b, self.c):
            wait_for(
                "its snapshot holds it all",
                lambda at=host: holds(at, b"api-1", b"web-1" if at is self.b else b"intentions"),
                15,
            )

    def status(self) -> int:
        return http("GET", self.url).status

    def power_cut(self) -> None:
        """Every meshd and every proxy ends at once, as when the power goes; RunDir is memory, so it is gone too."""
        for host in self.mesh.hosts.values():
            host.kill()
            for pid in host.proxy_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        wait_for("no proxy runs", lambda: not any(host.proxy_pids() for host in self.mesh.hosts.values()), 10)
        for host in self.mesh.hosts.values():
            shutil.rmtree(host.run_dir)


def snapshot(host: Host) -> Path:
    return host.data_dir / "snapshot"


def holds(host: Host, *names: bytes) -> bool:
    found = snapshot(host).read_bytes()
    return all(name in found for name in names)


def keys(host: Host) -> dict[str, bytes]:
    """The host's private keys; nobody else may read them."""
    found = sorted((host.data_dir / "identity").rglob("*.key"))
    assert len(found) == 2, "of the node and of its one instance"
    assert {path.stat().st_mode & 0o777 for path in found} == {0o600}
    return {str(path): path.read_bytes() for path in found}


def state(host: Host) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)["registry"]["snapshot"]
    return found


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        yield Story(mesh)


def test_calling_and_serving_host_start_from_disk_while_the_registry_stays_down(story: Story) -> None:
    before = {host.name: keys(host) for host in (story.b, story.c)}
    story.power_cut()
    with pytest.raises(OSError):  # noqa: PT011 - refused or reset, as the kernel likes
        story.status()
    for host in (story.c, story.b):
        host.start()
    wait_for("the call passes without any registry", lambda: story.status() == 200, 20)
    for host in (story.b, story.c):
        assert keys(host) == before[host.name], "a reboot asks for no new identity"
        found = state(host)
        assert found["state"] == "serving"
        assert found["age"] > 0
        assert "snapshot IN FORCE" in host.meshctl("status", check=False).stdout
        assert "meshd_snapshot_in_use 1.0" in host.metrics()
    story.a.start()
    for host in (story.b, story.c):
        wait_for("the registry has spoken again", lambda at=host: state(at)["state"] == "saved", 30)
    assert story.status() == 200


def test_a_tampered_snapshot_is_refused_and_named(story: Story) -> None:
    story.power_cut()
    path = snapshot(story.b)
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_bytes(path.read_bytes().replace(b'"api"', b'"apj"'))
    story.c.start()
    story.b.start(ready=False)
    wait_for("refused", lambda: state(story.b)["state"] == "refused", 20)
    assert "not signed by this host's key" in state(story.b)["reason"]
    assert "snapshot refused" in story.b.log.read_text()
    assert "meshd_snapshot_refused 1.0" in story.b.metrics()
    wait_for("the host is ready all the same", lambda: not story.b.wait_ready(), 30)
    with suppress(OSError, Failed):
        assert story.status() != 200


def test_an_old_snapshot_is_served_or_not_as_configured(story: Story) -> None:
    story.a.apply({"Kind": "mesh", "Registry": {"MaxSnapshotAge": "1s"}})
    for host in (story.b, story.c):
        wait_for("saved", lambda at=host: holds(at, b'"kind":"mesh"'), 15)
    story.b.config["Registry"]["OldSnapshot"] = "deny"
    story.power_cut()
    for host in (story.c, story.b):
        host.start()
    assert state(story.b)["state"] == "too old"
    found = state(story.c)
    assert (found["state"], "MaxSnapshotAge" in found["reason"]) == ("serving", True)
    with suppress(OSError):
        assert story.status() == 503
