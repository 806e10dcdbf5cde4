"""Real Consul servers, Debian's 1.8 and 1.13 compiled from its Go module, with ACLs (default deny) and TLS.

They are stopped, killed, frozen and wiped by tests; `tests.consul_agent` is the quick one without any of that.
"""

import atexit
import json
import shutil
import ssl
import subprocess
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGTERM, Signals
from typing import Any

from tests.consul_agent import START, free_ports, random_host
from tests.tools import ROOT, tool

OLDER, NEWER = "consul", "consul-1.13"
AUTHORITY = ("consul-agent-ca.pem", "consul-agent-ca-key.pem")
RULES = ROOT / "deploy" / "consul"


class ConsulServer:
    """`tls` and `acl` switch both on. The ports stay the same over restarts. `peers`: all of a cluster, itself too."""

    def __init__(
        self,
        directory: Path,
        host: str,
        *,
        node: str = "server",
        acl: bool = True,
        tls: bool = True,
        program: str = OLDER,
    ) -> None:
        self.directory, self.host, self.node, self.acl, self.tls = directory, host, node, acl, tls
        self.program = program
        self.peers: Sequence[ConsulServer] = (self,)
        self.kept = True  # False: data in memory, which is quicker and does not survive a restart
        directory.mkdir(parents=True, exist_ok=True)
        self.management = str(uuid.uuid4())
        self._tokens: list[tuple[str, Sequence[str]]] = []  # secret and rules of each that was made
        self.port, *self._ports = free_ports(host, 4)
        self.process: subprocess.Popen[bytes] | None = None
        self.ca, self.cert, self.key = (directory / name for name in ("ca.pem", "client.pem", "client-key.pem"))
        if tls:
            self._certificates()

    @property
    def url(self) -> str:
        return f"{'https' if self.tls else 'http'}://{self.host}:{self.port}"

    @property
    def lan(self) -> int:
        """Where other servers find it."""
        return self._ports[1]

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def log(self) -> Path:
        return self.directory / "consul.log"

    # ---- life -------------------------------------------------------------------------------------------------------

    def start(self, *, ready: bool = True) -> "ConsulServer":
        config = self.directory / "config.json"
        config.write_text(json.dumps(self._config()))
        with self.log.open("ab") as log:
            command = [str(tool(self.program)), "agent", "-config-file", str(config), *([] if self.kept else ["-dev"])]
            self.process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=self.directory,
                                            start_new_session=True)  # fmt: skip
        if ready:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            try:
                if self.call("GET", "/v1/health/service/consul?passing"):
                    return
            except OSError:
                time.sleep(0.05)
        raise RuntimeError(f"consul did not start:\n{self.log.read_text()[-2000:]}")

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def kill(self) -> None:
        self.end(SIGKILL)

    def end(self, number: Signals = SIGTERM) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)

    def wipe(self) -> None:
        """Its data are lost; it must not run."""
        shutil.rmtree(self.data)

    # ---- use --------------------------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: object = None, token: str = "") -> Any:
        """With the management token unless another is given. Raises OSError (urllib's HTTPError is one)."""
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(self.url + path, data=data, method=method)
        request.add_header("X-Consul-Token", token or self.management)
        with urllib.request.urlopen(request, timeout=5, context=self.client_context()) as answer:
            return json.loads(answer.read() or b"null")

    def command(self, *args: str, token: str = "") -> subprocess.CompletedProcess[str]:
        """The real `consul` command against this server. Raises CalledProcessError."""
        env = {**self.environment, "CONSUL_HTTP_TOKEN": token or self.management}
        command = [str(tool(self.program)), *args]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=True, timeout=30)

    @property
    def environment(self) -> dict[str, str]:
        """Where the server is, for the `consul` command; without a token."""
        if not self.tls:
            return {"CONSUL_HTTP_ADDR": self.url}
        files = {"CONSUL_CACERT": self.ca, "CONSUL_CLIENT_CERT": self.cert, "CONSUL_CLIENT_KEY": self.key}
        return {"CONSUL_HTTP_ADDR": self.url, **{name: str(path) for name, path in files.items()}}

    def token(self, *files: tuple[str, Mapping[str, str]]) -> str:
        """An ACL token with policies of `deploy/consul`: (file, {placeholder: value}) each."""
        found = []
        for file, values in files:
            rules = (RULES / file).read_text()
            for placeholder, value in values.items():
                rules = rules.replace(placeholder, value)
            found.append(rules)
        secret = str(uuid.uuid4())
        self._make_token(secret, found)
        self._tokens.append((secret, found))
        return secret

    def tokens_again(self) -> None:
        """A wiped server has lost them: the same secrets with the same rights."""
        for secret, rules in self._tokens:
            self._make_token(secret, rules)

    def _make_token(self, secret: str, rules: Sequence[str]) -> None:
        made = [{"Name": f"p-{uuid.uuid4().hex}", "Rules": one} for one in rules]
        policies = [{"ID": self.call("PUT", "/v1/acl/policy", one)["ID"]} for one in made]
        self.call("PUT", "/v1/acl/token", {"SecretID": secret, "Policies": policies})

    def host_token(self, node: str, services: Sequence[str], *, authority: bool = False) -> str:
        own = [("host.hcl", {"NODE": node}), *(("service.hcl", {"SERVICE": one}) for one in services)]
        return self.token(*own, *([("authority.hcl", {})] if authority else []))

    def client_context(self) -> ssl.SSLContext | None:
        if not self.tls:
            return None
        context = ssl.create_default_context(cafile=str(self.ca))
        context.load_cert_chain(self.cert, self.key)
        return context

    def settings(self, token_file: Path | None = None, mode: str = "agentless") -> dict[str, Any]:
        """The `Registry` section of a host that uses this server."""
        found: dict[str, Any] = {"Kind": "consul", "Addresses": [self.url], "Mode": mode}
        if self.tls:
            found |= {"CAFile": str(self.ca), "CertFile": str(self.cert), "KeyFile": str(self.key)}
        return found | ({"TokenFile": str(token_file)} if token_file is not None else {})

    # ---- inside -----------------------------------------------------------------------------------------------------

    def _config(self) -> dict[str, Any]:
        server, lan, wan = self._ports
        others = [f"{peer.host}:{peer.lan}" for peer in self.peers if peer is not self]
        ports = {"http": -1 if self.tls else self.port, "https": self.port if self.tls else -1}
        ports |= {"server": server, "serf_lan": lan, "serf_wan": wan, "dns": -1, "grpc": -1}
        config: dict[str, Any] = {
            "server": True, "retry_join": others, "node_name": self.node, "bind_addr": self.host,
            "client_addr": self.host, "ports": ports, "log_level": "warn", "performance": {"raft_multiplier": 1},
            "leave_on_terminate": False, "disable_update_check": True,
        }  # fmt: skip
        if self.kept:
            config |= {"bootstrap_expect": len(self.peers), "data_dir": str(self.data)}
        if self.acl:
            tokens = {"master": self.management, "agent": self.management}
            config["acl"] = {"enabled": True, "default_policy": "deny", "tokens": tokens}
        if self.tls:
            config |= {"ca_file": str(self.ca), "cert_file": str(self.directory / "server.pem")}
            config |= {"key_file": str(self.directory / "server-key.pem"), "verify_incoming_https": True}
        return config

    def trust(self, first: "ConsulServer") -> None:
        """Be one of its cluster: its authority, its management token."""
        self.management = first.management
        if first is not self:
            self._certificates(first.directory)

    def _certificates(self, authority: Path | None = None) -> None:
        """Of an authority of its own, or of that of another server."""

        def make(*args: str) -> None:
            command = [str(tool(self.program)), "tls", *args]
            subprocess.run(command, cwd=self.directory, capture_output=True, check=True, timeout=30)

        made = [("dc1-server-consul-0", "server"), ("dc1-client-consul-0", "client")]
        if authority is None:
            make("ca", "create")
        else:
            for name in (*AUTHORITY, "ca.pem"):
                shutil.copy(authority / name, self.directory)
        make("cert", "create", "-server", f"-additional-ipaddress={self.host}")
        make("cert", "create", "-client")
        shutil.copy(self.directory / AUTHORITY[0], self.ca)
        for there, name in made:
            for end in (".pem", "-key.pem"):
                (self.directory / f"{there}{end}").rename(self.directory / f"{name}{end}")


@contextmanager
def consul_server(directory: Path, host: str, *, acl: bool = True, tls: bool = True) -> Iterator[ConsulServer]:
    server = ConsulServer(directory, host, acl=acl, tls=tls).start()
    try:
        yield server
    finally:
        server.kill()


@contextmanager
def consul_cluster(directory: Path, program: str, size: int = 3) -> Iterator[list[ConsulServer]]:
    """Several servers with a leader, with ACLs and TLS; killed at the end."""
    members = [ConsulServer(directory / f"m{n}", random_host(), node=f"m{n}", program=program) for n in range(size)]
    for member in members:
        member.peers = members
        member.trust(members[0])
    try:
        for member in members:
            member.start(ready=False)
        for member in members:
            member.wait_ready()
        yield members
    finally:
        for member in members:
            member.kill()


@dataclass
class SharedConsul:
    """One server for all tests of a process, started by the first that asks: an election takes seconds."""

    program: str = OLDER
    _running: list[ConsulServer] = field(default_factory=list)

    def server(self) -> ConsulServer:
        if not self._running:
            tool(self.program)
            directory = Path(tempfile.mkdtemp(prefix="consul-"))
            server = ConsulServer(directory, random_host(), program=self.program)
            server.kept = False
            atexit.register(_end, server)
            self._running.append(server.start())
        return self._running[0]


def _end(server: ConsulServer) -> None:
    server.kill()
    shutil.rmtree(server.directory, ignore_errors=True)
