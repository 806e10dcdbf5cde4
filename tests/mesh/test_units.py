"""The two units of `deploy/systemd`: what systemd makes of them, and their very command lines as real processes."""

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.traffic import Load
from tests.mesh.cluster import BIN, ROOT, Cluster, Failed, Host, Process, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(150)]

UNITS = ROOT / "deploy" / "systemd"
NAMES = ("meshd.service", "meshd-proxy.service")
UPSTREAM = 9101
EXPOSURE = "20"  # tenths: systemd-analyze calls this level OK


def settings(name: str) -> dict[str, list[str]]:
    """All assignments of a unit, by key."""
    found: dict[str, list[str]] = {}
    for line in (UNITS / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            found.setdefault(key, []).append(value)
    return found


def command(name: str, host: Host) -> list[str]:
    """ExecStart with this host's places instead of the system's."""
    (line,) = settings(name)["ExecStart"]
    line = line.replace("%t/meshd", str(host.run_dir)).replace("/usr/bin/", f"{BIN}/")
    return line.replace("/etc/meshd/meshd.yaml", str(host.write_config())).split()


@pytest.mark.parametrize("name", NAMES)
def test_what_the_architecture_demands_of_a_unit(name: str) -> None:
    found = settings(name)
    assert found["Restart"] == ["always"]
    assert found["RuntimeDirectory"] == ["meshd"]
    assert found["RuntimeDirectoryPreserve"] == ["yes"]
    assert found["NoNewPrivileges"] == ["yes"]
    assert not {"Requires", "BindsTo", "PartOf", "Requisite"} & found.keys(), "neither needs the other"
    assert found["User"] == ["meshd"], "the proxy takes connections of its own user only"


@pytest.mark.parametrize("name", NAMES)
def test_systemd_takes_the_unit_and_its_sandbox(name: str, tmp_path: Path) -> None:
    """`verify` finds no unknown setting; `security` reckons the exposure of the sandbox, without a running systemd."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed here; the units are read and run without it")
    unit = tmp_path / name
    unit.write_text((UNITS / name).read_text().replace("/usr/bin/", f"{BIN}/"))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", "--recursive-errors=no", str(unit)],
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", f"--threshold={EXPOSURE}", str(unit)],
                          capture_output=True, text=True, check=False, timeout=60)  # fmt: skip
    assert done.returncode == 0, re.findall("Overall.*", done.stdout)


class Units:
    """Host a: registry, authority and `web`, both of its units; it calls `api` on b."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a = mesh.host("a", Roles=["registry", "ca"], Registry={"Kind": "sqlite"})
        mesh.init_authority(self.a)
        self.a.run_dir.mkdir(parents=True)  # RuntimeDirectory=
        self.proxy, self.meshd = self.start_proxy(), self.start_meshd()
        self.a.wait_ready()
        b = mesh.join("b", ["api"])
        web, api = mesh.app(self.a, "web", "web-1"), mesh.app(b, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.a.address}:{UPSTREAM}/hello"
        wait_for("the call passes", lambda: self.call() == 200, 20)

    def start_proxy(self) -> Process:
        return self.mesh.start_other("proxy-a", command("meshd-proxy.service", self.a))

    def start_meshd(self) -> Process:
        self.meshd = Process("meshd a", command("meshd.service", self.a), self.a.log)
        self.a.process = self.meshd
        return self.meshd

    def call(self) -> int:
        return http("GET", self.url, timeout=2).status


@pytest.fixture
def units(tmp_path: Path) -> Iterator[Units]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        yield Units(mesh)


@pytest.mark.mesh_long
def test_meshd_ends_and_starts_while_the_proxy_serves_on(units: Units) -> None:
    """`systemctl restart meshd` and a crash: the same proxy, nothing withdrawn, no request fails."""
    load = Load(units.url, rate=100, count=1000)
    pids = units.a.proxy_pids()
    assert pids == [units.proxy.pid], "meshd has started none of its own"
    assert units.meshd.end() == 0
    catalogue = f"{units.mesh.hosts['b'].api}/v1/catalog/service/web"
    units.start_meshd()
    units.a.wait_ready()
    assert [one["ServiceID"] for one in http("GET", catalogue).json()] == ["web-1"], "it was not withdrawn"
    units.meshd.signal(signal.SIGKILL)
    units.meshd.wait(5)
    units.start_meshd()
    units.a.wait_ready()
    report = load.result()
    assert (report["failed"], report["ok"]) == (0, 1000), report
    assert units.a.proxy_pids() == pids


def test_a_proxy_that_starts_alone_serves_the_last_applied_set(units: Units) -> None:
    """Both are gone, only the proxy's unit comes back: it waits 3 s for a meshd, then serves what RunDir holds."""
    last = units.a.run_dir / "proxy" / "last.json"
    wait_for("the set is saved", lambda: b"api" in last.read_bytes())
    assert last.stat().st_mode & 0o777 == 0o600
    units.meshd.signal(signal.SIGKILL)
    units.proxy.signal(signal.SIGKILL)
    units.proxy.wait(5)
    with pytest.raises((OSError, Failed)):
        units.call()
    units.proxy = units.start_proxy()
    wait_for("requests pass without any meshd", lambda: units.call() == 200, 20)
    assert units.meshd.popen.poll() is not None
    units.start_meshd()
    units.a.wait_ready()
    assert units.call() == 200


@pytest.mark.mesh_long
def test_a_proxy_that_is_killed_beside_a_running_meshd_is_served_at_once(units: Units) -> None:
    units.proxy.signal(signal.SIGKILL)
    units.proxy.wait(5)
    units.proxy = units.start_proxy()
    wait_for("requests pass again", lambda: units.call() == 200, 20)
    assert units.meshd.alive


def test_what_systemd_is_told(units: Units, tmp_path: Path) -> None:
    """Type=notify over a real NOTIFY_SOCKET: READY when ready, RELOADING and READY on SIGHUP, STOPPING at the end."""
    units.meshd.end()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        where = units.a.run_dir / "notify"
        listening.bind(str(where))
        listening.settimeout(30)
        units.a.process = meshd = Process("meshd a", command("meshd.service", units.a), units.a.log,
                                          {"NOTIFY_SOCKET": str(where)})  # fmt: skip
        assert listening.recv(1024) == b"READY=1"
        assert http("GET", f"{units.a.admin}/readyz").status == 200
        (hup,) = settings("meshd.service")["ExecReload"]
        subprocess.run(hup.replace("$MAINPID", str(meshd.pid)).split(), check=True)
        said = listening.recv(1024).decode().splitlines()
        assert said[0] == "RELOADING=1"
        assert said[1].startswith("MONOTONIC_USEC=")
        assert listening.recv(1024) == b"READY=1"
        os.kill(meshd.pid, signal.SIGTERM)
        assert listening.recv(1024) == b"STOPPING=1"
        assert meshd.wait(20) == 0
