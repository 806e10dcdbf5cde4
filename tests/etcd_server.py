"""Real etcd servers: Debian's 3.4, and 3.7 compiled from its Go module."""

import atexit
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, Signals
from types import MappingProxyType
from typing import Any

from registry.backends.etcd_links import Tls
from tests.consul_agent import free_ports, random_host
from tests.fakes.pki import Pki
from tests.mesh.cluster import http, wait_for
from tests.tools import ROOT, tool

START = 30.0  # seconds until a leader is elected


@dataclass
class Server:
    """One member. `extra`: further flags; with `tls` (certificate, key, CA) clients need a certificate of that CA."""

    binary: Path
    directory: Path
    host: str
    port: int
    peer: int
    extra: Sequence[str] = ()
    tls: tuple[Path, Path, Path] | None = None
    cluster: str = ""  # name=peer URL of all members, when there are several
    name: str = "m1"
    process: subprocess.Popen[bytes] | None = None
    metrics: int = 0

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def url(self) -> str:
        return f"http{'s' if self.tls else ''}://{self.address}"

    @property
    def command(self) -> list[str]:
        peer = f"http://{self.host}:{self.peer}"
        flags = [str(self.binary), "--name", self.name, "--data-dir", str(self.directory / "data")]
        flags += ["--listen-client-urls", self.url, "--advertise-client-urls", self.url]
        flags += ["--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer]
        flags += ["--initial-cluster", self.cluster or f"{self.name}={peer}", "--logger", "zap"]
        flags += ["--listen-metrics-urls", f"http://{self.host}:{self.metrics}"]
        if self.tls:
            certificate, key, roots = map(str, self.tls)
            flags += ["--cert-file", certificate, "--key-file", key, "--trusted-ca-file", roots, "--client-cert-auth"]
        return [*flags, *self.extra]

    def start(self, *, ready: bool = True) -> "Server":
        self.directory.mkdir(parents=True, exist_ok=True)
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(self.command, stdout=log, stderr=subprocess.STDOUT, start_new_session=True)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        wait_for(f"etcd at {self.address} has a leader", self._healthy, START, every=0.05)

    def _healthy(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            raise RuntimeError(f"etcd did not start:\n{(self.directory / 'log').read_text()[-2000:]}")
        answer = http("GET", f"http://{self.host}:{self.metrics}/health", timeout=2)
        return answer.status == 200 and str(answer.json()["health"]) == "true"

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def stop(self, number: Signals = SIGKILL) -> None:
        """End it and wait; the data stays."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "data")

    def metric(self, name: str) -> float:
        lines = http("GET", f"http://{self.host}:{self.metrics}/metrics").body.decode().splitlines()
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.split("{")[0].split(" ")[0] == name)

    def watchers(self) -> int:
        """Watches that the server holds for anybody."""
        return int(self.metric("etcd_debugging_mvcc_watcher_total"))

    @property
    def environment(self) -> dict[str, str]:
        """Where the server is, for etcdctl; without an account."""
        found = {"ETCDCTL_API": "3", "ETCDCTL_ENDPOINTS": self.url}
        if self.tls:
            names = ("ETCDCTL_CERT", "ETCDCTL_KEY", "ETCDCTL_CACERT")
            found |= dict(zip(names, map(str, self.tls), strict=True))
        return found

    def etcdctl(self, *arguments: str, stdin: str | None = None, user: str = "") -> str:
        """The real command. Raises RuntimeError with what it says."""
        return self._run([str(tool("etcdctl")), *arguments], stdin, {"ETCDCTL_USER": user} if user else {})

    def admit(self, served: Mapping[str, Sequence[str]], authority: str) -> None:
        """The roles of `deploy/etcd`, an account `<name>:<name>-secret` for each host and an operator; then only these.

        `served`: the services of each host. `root:root-secret` may do everything.
        """
        roles = ["/bin/sh", str(ROOT / "deploy/etcd/roles.sh")]
        path = {"PATH": f"{tool('etcdctl').parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        self._run([*roles, "common"], None, path)
        granted = {host: ["mesh-read", f"mesh-host-{host}"] for host in served}
        granted[authority].append("mesh-authority")
        for host, services in served.items():
            self._run([*roles, "host", host, *services], None, path)
        for name, wanted in {**granted, "operator": ["mesh-read", "mesh-operator"], "root": ["root"]}.items():
            self.etcdctl("user", "add", f"{name}:{name}-secret")
            for role in wanted:
                self.etcdctl("user", "grant-role", name, role)
        self.etcdctl("auth", "enable")

    def settings(self, account: Path | None = None) -> dict[str, Any]:
        """The `Registry` section of a host that uses this server."""
        found: dict[str, Any] = {"Kind": "etcd", "Addresses": [self.url]}
        if self.tls:
            certificate, key, roots = map(str, self.tls)
            found |= {"CAFile": roots, "CertFile": certificate, "KeyFile": key}
        return found | ({"TokenFile": str(account)} if account is not None else {})

    def _run(self, command: list[str], stdin: str | None, more: Mapping[str, str]) -> str:
        env = {**os.environ, **self.environment, **more}
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, env=env, timeout=60, check=False)
        if done.returncode:
            raise RuntimeError(f"{' '.join(command)}: {done.stderr}{done.stdout}")
        return done.stdout


def etcd_server(binary: Path, directory: Path, extra: Sequence[str] = (), host: str = "") -> Server:
    """A member that is not started yet, on an address that nobody else uses."""
    host = host or random_host()
    port, peer, metrics = free_ports(host, 3)
    return Server(binary, directory, host, port, peer, extra, metrics=metrics)


@contextmanager
def running_etcd(binary: Path, extra: Sequence[str] = ()) -> Iterator[Server]:
    """A running member; killed with its data at the end."""
    directory = Path(tempfile.mkdtemp(prefix="etcd-"))
    server = etcd_server(binary, directory, extra)
    try:
        yield server.start()
    finally:
        server.stop()
        shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def running_cluster(binary: Path, size: int = 3) -> Iterator[list[Server]]:
    """Several members; killed with their data at the end."""
    directory = Path(tempfile.mkdtemp(prefix="etcd-"))
    members = [etcd_server(binary, directory / f"m{n}") for n in range(size)]
    for number, member in enumerate(members):
        member.name = f"m{number}"
        member.cluster = ",".join(f"m{n}=http://{m.host}:{m.peer}" for n, m in enumerate(members))
    try:
        for member in members:
            member.start(ready=False)
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.stop()
        shutil.rmtree(directory, ignore_errors=True)


def older() -> Path:
    return tool("etcd")


def newer() -> Path:
    """Compiled by `make tools` where Go is, and always in CI."""
    return tool("etcd-3.7")


ROOT_ACCOUNT = "root:root"
QUICK_LOGINS = ("--bcrypt-cost", "4")  # a log-in costs 100 ms otherwise, and each store of a test logs in


def guard(server: Server, accounts: Mapping[str, str] = MappingProxyType({})) -> None:
    """Authentication on: ROOT_ACCOUNT may do everything, each `name:password` everything below its prefix."""
    server.etcdctl("user", "add", ROOT_ACCOUNT)
    if "root" not in server.etcdctl("role", "list").split():  # 3.5 and later have made it
        server.etcdctl("role", "add", "root")
    server.etcdctl("user", "grant-role", "root", "root")
    for account, prefix in accounts.items():
        name = account.partition(":")[0]
        server.etcdctl("user", "add", account)
        server.etcdctl("role", "add", name)
        server.etcdctl("role", "grant-permission", name, "readwrite", prefix, "--prefix=true")
        server.etcdctl("user", "grant-role", name, name)
    server.etcdctl("auth", "enable")


@dataclass
class SharedEtcd:
    """One member for all tests of a process, started by the first that asks: an election takes a second.

    With TLS (clients show a certificate) and authentication; `tls` is what a client needs for both.
    """

    binary: Callable[[], Path] = older
    _running: list[tuple[Server, Tls]] = field(default_factory=list)

    def server(self) -> Server:
        if not self._running:
            directory = Path(tempfile.mkdtemp(prefix="etcd-"))
            server = etcd_server(self.binary(), directory, QUICK_LOGINS)
            pki = Pki(directory / "pki")
            server.tls = (*pki.issue("server", address=server.host), pki.roots)
            certificate, key = pki.issue("client")
            atexit.register(_end, server)
            tls = Tls(pki.roots.read_bytes(), certificate.read_bytes(), key.read_bytes())
            self._running.append((server.start(), tls))
            guard(server)
        return self._running[0][0]

    def tls(self) -> Tls:
        self.server()
        return self._running[0][1]


def _end(server: Server) -> None:
    server.stop()
    shutil.rmtree(server.directory, ignore_errors=True)
