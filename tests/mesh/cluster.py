"""A mesh of several hosts on one machine: real `meshd run` processes, each with its own address and directories.

    with Cluster(tmp_path, net="127.42.7") as mesh:
        a = mesh.first_host("a")                       # registry and authority
        b = mesh.join("b", services=["api"])           # token, configuration, start, ready
        api = mesh.app(b, "api", "api-1", version="v1")
        b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        a.meshctl("status")

Hosts differ in their loopback address (`<net>.1`, `.2`, ...), so every default port is free on each. Whatever
happens, `close` ends all processes and, after a failure, prints the end of every log.
"""

import json
import os
import random
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

import yaml

T = TypeVar("T")
ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
API, ADMIN, PEER, INBOUND = 15500, 15590, 15444, 15443
UNIX_PATH_MAX = 90  # sun_path is 108; sockets below RunDir need some of it


class Failed(AssertionError):
    """A step of a story did not do what it should."""


def random_net() -> str:
    """A loopback /24 that nothing else uses: `127.x.y`."""
    return f"127.{random.randint(16, 250)}.{random.randint(0, 250)}"


def wait_for(what: str, probe: Callable[[], T], seconds: float = 15.0, every: float = 0.02) -> T:
    """Call `probe` until it is truthy, and return that; OSError and Failed count as not yet."""
    end = time.monotonic() + seconds
    last: T | Exception | None = None
    while time.monotonic() < end:
        try:
            found = probe()
        except (OSError, Failed, ValueError) as error:
            last = error
        else:
            if found:
                return found
            last = found
        time.sleep(every)
    raise Failed(f"{what}: not within {seconds:g} s (last: {last!r})")


@dataclass(frozen=True)
class Answer:
    """An HTTP answer, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    def json(self) -> Any:
        return json.loads(self.body)


def http(
    method: str, url: str, *, body: object = None, headers: Mapping[str, str] | None = None, timeout: float = 10
) -> Answer:
    """One request on a connection of its own. `body` is sent as JSON unless it is bytes."""
    data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method, headers=dict(headers or {}))
    try:
        with urllib.request.urlopen(request, timeout=timeout) as answer:
            return Answer(answer.status, answer.read(), {k.lower(): v for k, v in answer.headers.items()})
    except urllib.error.HTTPError as error:
        with error:
            return Answer(error.code, error.read(), {k.lower(): v for k, v in error.headers.items()})


class Process:
    """One child process in a session of its own, its output in a file."""

    def __init__(self, name: str, command: Sequence[str], log: Path, env: Mapping[str, str] | None = None):
        self.name, self.log = name, log
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as out:
            self.popen = subprocess.Popen(
                list(command), stdout=out, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL, cwd=ROOT,
                env={**os.environ, **(env or {})}, start_new_session=True,
            )  # fmt: skip
        self.pid = self.popen.pid

    @property
    def alive(self) -> bool:
        return self.popen.poll() is None

    def signal(self, number: signal.Signals) -> None:
        if self.alive:
            self.popen.send_signal(number)

    def wait(self, seconds: float) -> int:
        return self.popen.wait(seconds)

    def end(self, seconds: float = 10.0) -> int:
        """SIGTERM, then SIGKILL after `seconds`."""
        self.signal(signal.SIGCONT)
        self.signal(signal.SIGTERM)
        try:
            return self.popen.wait(seconds)
        except subprocess.TimeoutExpired:
            self.signal(signal.SIGKILL)
            return self.popen.wait()


class AppProcess(Process):
    """A `tests.mesh.app`. `requests()` is what it received, from its own log."""

    def __init__(self, directory: Path, address: str, name: str, instance: str, version: str, port: int = 0):
        self.requests_log = directory / f"app-{instance}.requests"
        self.requests_log.parent.mkdir(parents=True, exist_ok=True)
        self.requests_log.write_text("")
        self.address, self.instance = address, instance
        self.port = port or free_port(address)
        self._command = [
            sys.executable, "-m", "tests.mesh.app", "--name", name, "--instance", instance, "--version", version,
            "--listen", f"{address}:{self.port}", "--log", str(self.requests_log),
        ]  # fmt: skip
        super().__init__(f"app {instance}", self._command, directory / f"app-{instance}.log")
        wait_for(f"{self.name} listens", lambda: http("GET", f"{self.url}/healthz").status == 200)

    @property
    def url(self) -> str:
        return f"http://{self.address}:{self.port}"

    def requests(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.requests_log.read_text().splitlines()]

    def control(self, **wish: object) -> None:
        http("PUT", f"{self.url}/_control", body=wish)


def free_port(address: str) -> int:
    with socket.socket() as probe:
        probe.bind((address, 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Host:
    """One host: its configuration, its `meshd run` and how to talk to it."""

    name: str
    address: str
    directory: Path
    config: dict[str, Any]
    mesh: "Cluster"
    process: Process | None = None
    env: dict[str, str] = field(default_factory=dict)

    @property
    def data_dir(self) -> Path:
        return Path(self.config["DataDir"])

    @property
    def run_dir(self) -> Path:
        return Path(self.config["RunDir"])

    @property
    def socket(self) -> Path:
        return self.run_dir / "api.sock"

    @property
    def api(self) -> str:
        return f"http://{self.address}:{API}"

    @property
    def admin(self) -> str:
        return f"http://{self.address}:{ADMIN}"

    @property
    def log(self) -> Path:
        return self.directory / "meshd.log"

    def write_config(self) -> Path:
        path = self.directory / "meshd.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(yaml.safe_dump(self.config, sort_keys=False))
        return path

    def start(self, *, ready: bool = True) -> "Host":
        """`meshd run --config ...`; with `ready` waits for /readyz."""
        command = [str(BIN / "meshd"), "run", "--config", str(self.write_config())]
        self.process = Process(f"meshd {self.name}", command, self.log, self.env)
        self.mesh.on_start(self.process)
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self, seconds: float = 30.0) -> None:
        def probe() -> bool:
            if self.process is not None and not self.process.alive:
                raise RuntimeError(f"meshd {self.name} ended with {self.process.popen.returncode}: see {self.log}")
            return http("GET", f"{self.admin}/readyz", timeout=2).status == 200

        wait_for(f"meshd {self.name} ready", probe, seconds)

    def kill(self) -> None:
        """SIGKILL of meshd alone; the proxy stays."""
        assert self.process is not None
        self.process.signal(signal.SIGKILL)
        self.process.wait(5)

    def pause(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGSTOP)

    def resume(self) -> None:
        assert self.process is not None
        self.process.signal(signal.SIGCONT)

    def stop(self, seconds: float = 20.0) -> int:
        assert self.process is not None
        return self.process.end(seconds)

    def meshctl(self, *args: str, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess[str]:
        """The real command against this host's api.sock."""
        command = [str(BIN / "meshctl"), "--api", str(self.socket), *args]
        done = subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=60, check=False, cwd=ROOT)
        if check and done.returncode:
            raise Failed(f"{' '.join(args)}: exit {done.returncode}: {done.stderr or done.stdout}")
        return done

    def register(self, registration: Mapping[str, object]) -> Answer:
        answer = http("PUT", f"{self.api}/v1/agent/service/register", body=registration)
        if answer.status != 200:
            raise Failed(f"registration at {self.name}: {answer.status} {answer.body!r}")
        return answer

    def apply(self, document: Mapping[str, object], wait: str = "10s") -> None:
        """Write one document with `meshctl apply --wait`."""
        self.meshctl("apply", "-f", "-", f"--wait={wait}", stdin=yaml.safe_dump(dict(document), sort_keys=False))

    def stats(self) -> dict[str, Any]:
        """The proxy's counters, freshly scraped."""
        stats: dict[str, Any] = json.loads(self.meshctl("proxy", "stats", "-o", "json").stdout)
        return stats

    def metrics(self) -> str:
        return http("GET", f"{self.admin}/metrics").body.decode()

    def proxy_pids(self) -> list[int]:
        """Running proxies of this host, found by their arguments."""
        return [pid for pid, args in processes() if "meshd-proxy" in args[0] and str(self.run_dir) in args]


def processes() -> Iterator[tuple[int, list[str]]]:
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                args = (entry / "cmdline").read_bytes().decode(errors="replace").split("\0")
            except OSError:
                continue
            if args and args[0]:
                yield int(entry.name), args


class Cluster:
    """Several hosts and their applications. Use as a context manager."""

    def __init__(
        self,
        directory: Path,
        *,
        net: str | None = None,
        overrides: Mapping[str, object] | None = None,
        on_start: Callable[[Process], None] = lambda process: None,
    ):
        self.net, self.directory, self.on_start = net or random_net(), directory, on_start
        self.hosts: dict[str, Host] = {}
        self.apps: list[AppProcess] = []
        self.others: list[Process] = []
        self.overrides = dict(overrides or {})
        self.root_hash = ""
        self._short: tempfile.TemporaryDirectory[str] | None = None

    def __enter__(self) -> "Cluster":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.print_logs()
        self.close()

    # -- hosts

    def host(self, name: str, **config: object) -> Host:
        """A host that is configured but not started; `config` overrides the configuration."""
        address = f"{self.net}.{len(self.hosts) + 1}"
        directory = self.directory / name
        basis: dict[str, Any] = {
            "Node": name,
            "DataDir": str(directory / "data"),
            "RunDir": str(self.run_dir(name)),
            "Loopback": address,
            "Bind": {"Inbound": address, "Peer": address},
            "Advertise": {"Address": address},
            "LeaseTTL": "10s",
            "Development": True,  # loopback is advertised, and every local user may register and apply
        }
        self.hosts[name] = Host(name, address, directory, basis | self.overrides | config, self)
        return self.hosts[name]

    def run_dir(self, name: str) -> Path:
        """Below the state directory, or below /tmp when a unix socket's path would be too long."""
        wanted = self.directory / name / "run"
        if len(str(wanted)) <= UNIX_PATH_MAX:
            return wanted
        self._short = self._short or tempfile.TemporaryDirectory(prefix="mesh-")
        return Path(self._short.name) / name

    def first_host(self, name: str = "a", **config: object) -> Host:
        """Authority and embedded registry: `meshctl ca init`, then `meshd run`."""
        host = self.host(name, Roles=["registry", "ca"], Registry={"Kind": "sqlite"}, **config)
        self.init_authority(host)
        return host.start()

    def init_authority(self, host: Host) -> subprocess.CompletedProcess[str]:
        command = [
            str(BIN / "meshctl"),
            "ca",
            "init",
            "--data-dir",
            str(host.data_dir),
            "--node",
            host.name,
            "-o",
            "json",
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise Failed(f"ca init: {done.stderr}")
        self.root_hash = json.loads(done.stdout)["root_hash"]
        return done

    @property
    def authority(self) -> Host:
        return next(h for h in self.hosts.values() if "ca" in h.config.get("Roles", ()))

    def join(self, name: str, services: Sequence[str], **config: object) -> Host:
        """A further host: a one-time token from the authority, then `meshd run` joins with it."""
        host = self.joining(name, services, **config)
        return host.start()

    def joining(self, name: str, services: Sequence[str], **config: object) -> Host:
        """As `join`, without starting it."""
        peer = f"{self.authority.address}:{PEER}"
        token_file = self.directory / name / f"join-token-{secrets.token_hex(4)}"
        token_file.parent.mkdir(parents=True, exist_ok=True)
        wanted = [part for service in services for part in ("--service", service)]
        self.authority.meshctl("token", "create", "--node", name, *wanted, "--out", str(token_file))
        join = {"Address": peer, "TokenFile": str(token_file), "RootHash": self.root_hash}
        return self.host(name, **({"Registry": {"Kind": "mesh", "Address": peer}, "Join": join} | config))

    # -- applications

    def app(self, host: Host, name: str, instance: str, version: str = "v1", port: int = 0) -> AppProcess:
        app = AppProcess(host.directory, host.address, name, instance, version, port)
        self.apps.append(app)
        self.on_start(app)
        return app

    def start_other(self, name: str, command: Sequence[str], **env: str) -> Process:
        process = Process(name, command, self.directory / f"{name}.log", env)
        self.others.append(process)
        self.on_start(process)
        return process

    # -- the end

    def release(self) -> None:
        """Let everything run on after `close`."""
        self.hosts.clear()
        self.apps.clear()
        self.others.clear()

    def close(self) -> None:
        for process in [*self.others, *self.apps]:
            process.end(2)
        for host in self.hosts.values():
            if host.process is not None:
                host.process.signal(signal.SIGCONT)
                host.process.signal(signal.SIGTERM)
        for host in self.hosts.values():
            if host.process is not None:
                host.process.end(8)
            for pid in host.proxy_pids():
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
        if self._short is not None:
            self._short.cleanup()

    def print_logs(self, lines: int = 40) -> None:
        logs = [h.log for h in self.hosts.values()] + [p.log for p in [*self.apps, *self.others]]
        for log in logs:
            if log.exists():
                print(f"---- {log}", file=sys.stderr)
                print("\n".join(log.read_text(errors="replace").splitlines()[-lines:]), file=sys.stderr)
