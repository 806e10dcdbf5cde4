"""Disks run full, a host's and a registry's: calls go on, it is said, and it ends when there is room again."""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.demo import registry as demo
from tests.etcd_server import etcd_server, older
from tests.mesh.cluster import Cluster, Host, wait_for
from tests.mesh.three_hosts import ThreeHosts, router
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(240)]

ROOM = 3 << 20  # bytes of a host's disk
QUOTA = 1 << 20  # bytes of etcd's


@contextmanager
def small_disk(path: Path) -> Iterator[Path]:
    """A file system of `ROOM` at the path. Skipped where nobody may mount one."""
    path.mkdir(parents=True)
    done = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", f"size={ROOM}", "tmpfs", path], capture_output=True, check=False
    )
    if done.returncode:
        pytest.skip(f"a small file system cannot be mounted here: {done.stderr.decode().strip()}")
    try:
        yield path
    finally:
        subprocess.run(["umount", "-l", path], check=True)


def fill(disk: Path) -> Path:
    """A file that leaves no byte."""
    ballast = disk / "ballast"
    with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(b"x" * 4096)
    return ballast


@pytest.fixture
def disks(tmp_path: Path) -> Iterator[dict[str, Path]]:
    """By host: where its DataDir is."""
    tool("meshd-proxy")
    with ExitStack() as stack:
        yield {name: stack.enter_context(small_disk(tmp_path / "disks" / name)) for name in ("a", "b")}


@pytest.fixture
def story(disks: dict[str, Path], tmp_path: Path) -> Iterator[ThreeHosts]:
    with Cluster(tmp_path) as mesh:
        configured = mesh.host

        def host(name: str, **config: Any) -> Host:
            where = {"DataDir": str(disks[name] / "data")} if name in disks else {}
            return configured(name, **config, **where)

        mesh.host = host  # type: ignore[method-assign]  # every host that the story makes
        yield ThreeHosts(mesh, demo.Embedded(mesh, lambda pid, name: None))


def test_a_hosts_disk_is_full(story: ThreeHosts, disks: dict[str, Path]) -> None:
    ballast = fill(disks["b"])
    story.a.apply(router("second"), wait="20s")
    story.in_force("second")
    wait_for("b says so", lambda: says(story.b, "snapshot cannot be saved"), 30)
    story.under_load_nothing_fails()
    ballast.unlink()
    story.a.apply(router("third"), wait="20s")
    wait_for("b has saved it", lambda: not says(story.b, "cannot be saved"), 30)
    story.b.kill()
    story.b.start()
    story.in_force("third")


def test_the_embedded_registrys_disk_is_full(story: ThreeHosts, disks: dict[str, Path]) -> None:
    ballast = fill(disks["a"])
    refused = story.a.meshctl("apply", "-f", "-", stdin=json.dumps(router("second")), check=False)
    assert refused.returncode == 75
    assert "full" in refused.stderr, refused.stderr
    assert story.routed_by() == "first"
    story.under_load_nothing_fails()
    ballast.unlink()
    story.a.apply(router("third"), wait="20s")
    story.in_force("third")
    story.all_well()


class SmallEtcd:
    """One member with a small quota, without accounts and TLS."""

    roles = ("ca",)

    def __init__(self, directory: Path) -> None:
        self.server = etcd_server(older(), directory, ["--quota-backend-bytes", str(QUOTA)])

    def config(self, host: str) -> dict[str, object]:
        return self.server.settings()

    def fill(self) -> None:
        with contextlib.suppress(RuntimeError):  # the last one is refused
            for number in range(100):
                self.server.etcdctl("put", f"ballast/{number}", stdin="x" * 100_000)

    def clear(self) -> None:
        """As etcd's maintenance guide has it."""
        self.server.etcdctl("del", "--prefix", "ballast/")
        status = json.loads(self.server.etcdctl("endpoint", "status", "-w", "json"))
        self.server.etcdctl("compact", str(status[0]["Status"]["header"]["revision"]))
        self.server.etcdctl("defrag")
        self.server.etcdctl("alarm", "disarm")


def test_etcds_quota_is_used_up(tmp_path: Path) -> None:
    tool("meshd-proxy")
    registry = SmallEtcd(tmp_path / "etcd")
    registry.server.start()
    try:
        with Cluster(tmp_path) as mesh:
            story = ThreeHosts(mesh, registry)
            registry.fill()
            refused = story.a.meshctl("apply", "-f", "-", stdin=json.dumps(router("second")), check=False)
            assert refused.returncode == 75
            assert "database space exceeded" in refused.stderr, refused.stderr
            assert story.routed_by() == "first"
            story.under_load_nothing_fails()
            registry.clear()
            story.a.apply(router("third"), wait="30s")
            story.in_force("third")
            story.all_well()
    finally:
        registry.server.stop()


def says(host: Host, word: str) -> bool:
    return word in host.meshctl("status", check=False).stdout
