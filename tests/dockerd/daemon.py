"""`with Dockerd() as docker:` a daemon that shares nothing with another one, or a skip that says why it cannot run.

No iptables rules, no default bridge: containers use a network that belongs to the test (random 10.x.y.0/24) or the
host's. Nothing can be pulled; the image holds one static program, compiled here.
"""

import json
import os
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, NoReturn

import docker
import pytest
from docker.errors import DockerException

from tests.tools import tool

START = 30.0  # seconds until the daemon answers; the first start of a machine takes some
IMAGE = "meshd-test:1"
PORT = "8080"  # that the image's server listens on
SECOND = 1_000_000_000  # nanoseconds
SOURCE = Path(__file__).with_name("app.c")
SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
BRIDGE = "com.docker.network.bridge.name"


class Dockerd:
    """One daemon. `kill`, `end` and `start` are for tests of its absence."""

    def __init__(self, *, live_restore: bool = False) -> None:
        self.binary = tool("dockerd")
        if os.geteuid() != 0:
            unusable("dockerd needs root")
        self.compiler = tool("gcc")
        self._live_restore = live_restore
        self.directory = Path(tempfile.mkdtemp(prefix="dockerd-"))
        self.socket = str(self.directory / "docker.sock")
        self.process: subprocess.Popen[bytes] | None = None
        self.network = ""
        self.client: docker.APIClient

    def __enter__(self) -> "Dockerd":
        try:
            self.start()
            self._build()
            self._connect()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    # ---- the daemon ---------------------------------------------------------------------------------------------

    def start(self) -> None:
        own = self.directory
        settings = own / "daemon.json"
        settings.write_text(json.dumps({"live-restore": self._live_restore}))
        command = [str(self.binary), "--config-file", str(settings), "--host", f"unix://{self.socket}"]
        command += ["--data-root", str(own / "data"), "--exec-root", str(own / "exec"), "--pidfile", str(own / "pid")]
        command += ["--bridge", "none", "--iptables=false", "--ip6tables=false", "--ip-forward=false"]
        with (own / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True,
                env={**os.environ, "PATH": f"{os.environ.get('PATH', os.defpath)}:{SBIN}"},
            )  # fmt: skip
        self.client = self._answering()

    def _answering(self) -> Any:
        deadline = time.monotonic() + START
        assert self.process is not None
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                reason = f"dockerd does not run here: {self.last_words()}"
                raise RuntimeError(reason) if self.network else unusable(reason)
            with socket.socket(socket.AF_UNIX) as probe, suppress(OSError, DockerException):
                probe.connect(self.socket)  # first by itself: a refused client of the package leaks its socket
                return docker.APIClient(base_url=f"unix://{self.socket}", version="auto", timeout=20)
            time.sleep(0.05)  # sleep: the pace of a wait with a deadline
        raise RuntimeError(f"dockerd did not start:\n{self.last_words()}")

    def last_words(self) -> str:
        return (self.directory / "log").read_text(errors="replace")[-600:]

    def kill(self) -> None:
        """SIGKILL of the daemon alone: containers go on under their shims."""
        assert self.process is not None
        self.client.close()
        self.process.kill()
        self.process.wait()
        # containerd dies with its parent; one that init has not reaped yet would count as running at the next start
        (self.directory / "exec/containerd/containerd.pid").unlink(missing_ok=True)

    def end(self) -> None:
        """SIGTERM: without live-restore the daemon stops its containers first."""
        assert self.process is not None
        self.client.close()
        self.process.terminate()
        self.process.wait(30)

    # ---- images and containers ----------------------------------------------------------------------------------

    def _build(self) -> None:
        root = self.directory / "image"
        root.mkdir()
        subprocess.run([str(self.compiler), "-static", "-Os", "-o", str(root / "app"), str(SOURCE)], check=True)
        tar = self.directory / "image.tar"
        subprocess.run(["tar", "-C", str(root), "-cf", str(tar), "app"], check=True)
        name, _, tag = IMAGE.partition(":")
        answer = self.client.import_image_from_file(str(tar), repository=name, tag=tag)
        assert "sha256:" in answer, answer

    def _connect(self) -> None:
        name = f"t{secrets.token_hex(4)}"
        subnet = f"10.{128 + secrets.randbelow(120)}.{secrets.randbelow(255)}.0/24"
        pool = docker.types.IPAMConfig(pool_configs=[docker.types.IPAMPool(subnet=subnet)])
        try:
            self.client.create_network(name, driver="bridge", ipam=pool, options={BRIDGE: name})
        except DockerException as error:
            unusable(f"no bridge network can be made here: {error}")
        self.network = name

    def run(
        self,
        name: str,
        labels: Mapping[str, str],
        *,
        linger: int = 0,
        publish: Mapping[int, tuple[str, int]] | None = None,
        network: str = "",
        healthy: Path | None = None,
    ) -> str:
        """Start the image's server as a container; its id. `publish`: container port -> (host address, host port).

        `healthy`: the container is healthy, by a HEALTHCHECK, while that file exists.
        """
        binds = [f"{healthy.parent}:/state:ro"] if healthy is not None else []
        host = self.client.create_host_config(
            network_mode=network or self.network, port_bindings=dict(publish or {}), binds=binds
        )
        probe = {"test": ["CMD", "/app", "probe", f"/state/{healthy.name}"], "interval": 200_000_000, "retries": 1,
                 "timeout": SECOND, "start_period": 0} if healthy is not None else None  # fmt: skip
        made = self.client.create_container(
            IMAGE, ["/app", PORT, str(linger)], name=name, labels=dict(labels), host_config=host,
            ports=list(publish or {}), healthcheck=probe,
        )  # fmt: skip
        self.client.start(made["Id"])
        return str(made["Id"])

    def address(self, container: str) -> str:
        networks = self.client.inspect_container(container)["NetworkSettings"]["Networks"]
        return str(networks[self.network]["IPAddress"])

    def stop(self, container: str, seconds: int = 10) -> None:
        self.client.stop(container, timeout=seconds)

    # ---- the end ------------------------------------------------------------------------------------------------

    def _close(self) -> None:
        if self.process is not None and self.process.poll() is None:
            with suppress(DockerException):
                for one in self.client.containers(all=True):
                    self.client.remove_container(one["Id"], force=True)
                if self.network:
                    self.client.remove_network(self.network)
            self.end()
        self._end_leftovers()
        shutil.rmtree(self.directory, ignore_errors=True)

    def _end_leftovers(self) -> None:
        """What a killed daemon leaves: shims (they name our directory), their containers, mounts, the bridge."""
        processes = running()
        named = {pid for pid, (args, _) in processes.items() if os.fsencode(self.directory) in args} - {os.getpid()}
        for pid in named | {pid for pid, (_, parent) in processes.items() if parent in named}:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
        for place in sorted((one for one in mounts if one.startswith(f"{self.directory}/")), reverse=True):
            subprocess.run(["umount", "--lazy", place], check=True)
        if self.network and Path("/sys/class/net", self.network).exists():
            subprocess.run(["ip", "link", "delete", self.network], check=True)


def unusable(reason: str) -> NoReturn:
    """A skip that is shown; a failure when `CI=true`."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def running() -> dict[int, tuple[bytes, int]]:
    """Every process: its arguments and its parent."""
    found: dict[int, tuple[bytes, int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError, IndexError):
                parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                found[int(entry.name)] = ((entry / "cmdline").read_bytes(), parent)
    return found
