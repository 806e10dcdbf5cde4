"""Where the demo's mesh keeps its state: `REGISTRY=embedded` (the default), `consul`, `etcd`.

One class per registry. `start` begins what must run beside the hosts, `config` is the `Registry` section of a host,
`roles` are host a's, `put_key` writes one key of policy with the tool that people of that store have at hand.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from tests.consul_server import ConsulServer
from tests.demo.show import Show
from tests.etcd_server import Server, etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import PEER, Cluster
from tests.tools import tool

Note = Callable[[int, str], None]  # told the pid and name of what was started, for a later demo to end
SERVED: Mapping[str, tuple[str, ...]] = {"a": ("web",), "b": ("api",), "c": ("api",)}


class DemoRegistry(Protocol):
    """`title`: what host a is, in the demo's words."""

    @property
    def title(self) -> str: ...

    @property
    def roles(self) -> tuple[str, ...]: ...

    def start(self) -> None: ...

    def config(self, host: str) -> dict[str, Any]: ...

    def put_key(self, show: Show, key: str, text: str) -> None: ...

    def stop(self) -> None: ...


class Embedded:
    """SQLite in host a's meshd; the other hosts reach it on 15444."""

    title = "Host a: authority and registry, no other server"
    roles = ("registry", "ca")

    def __init__(self, mesh: Cluster, note: Note) -> None:
        self._mesh = mesh

    def start(self) -> None:
        return None

    def config(self, host: str) -> dict[str, Any]:
        if host == "a":
            return {"Kind": "sqlite"}
        return {"Kind": "mesh", "Address": f"{self._mesh.hosts['a'].address}:{PEER}"}

    def put_key(self, show: Show, key: str, text: str) -> None:
        """With curl, as any tool of the store could."""
        socket = str(self._mesh.hosts["a"].socket)
        url = f"http://localhost/v1/kv/mesh/v1/policy/{key}"
        show.run("curl", "-sS", "-X", "PUT", "--unix-socket", socket, "--data-binary", "@-", url, stdin=text)

    def stop(self) -> None:
        return None


class Consul:
    """One Consul server with ACLs (default deny) and TLS; each host has a token of its own, and no agent."""

    title = "Host a: the authority. The registry is a Consul server with ACLs and TLS"
    roles = ("ca",)

    def __init__(self, mesh: Cluster, note: Note) -> None:
        self._mesh, self._note = mesh, note
        self._server = ConsulServer(mesh.directory / "consul", f"{mesh.net}.100")

    def start(self) -> None:
        self._server.start()
        assert self._server.process is not None
        self._note(self._server.process.pid, "consul")
        operator = self._write("operator-token", self._server.token(("operator.hcl", {})))
        # for meshctl and consul: policy is written with the operator's rights, not with a host's
        os.environ |= {"MESHD_TOKEN_FILE": str(operator), "CONSUL_HTTP_TOKEN_FILE": str(operator)}
        os.environ |= self._server.environment

    def config(self, host: str) -> dict[str, Any]:
        token = self._server.host_token(host, SERVED[host], authority=host == "a")
        return self._server.settings(self._write(f"{host}-token", token))

    def put_key(self, show: Show, key: str, text: str) -> None:
        """With Consul's own command."""
        show.run(str(tool("consul")), "kv", "put", f"mesh/v1/policy/{key}", "-", stdin=text)

    def stop(self) -> None:
        self._server.kill()

    def _write(self, name: str, token: str) -> Path:
        path = self._server.directory / name
        path.touch(0o600)  # before the secret is in it
        path.write_text(token)
        return path


class Etcd:
    """One etcd with accounts and TLS; each host has an account of its own."""

    title = "Host a: the authority. The registry is an etcd with accounts and TLS"
    roles = ("ca",)

    def __init__(self, mesh: Cluster, note: Note) -> None:
        self._mesh, self._note = mesh, note
        self._directory = mesh.directory / "etcd"
        self._server: Server | None = None

    @property
    def server(self) -> Server:
        assert self._server is not None
        return self._server

    def start(self) -> None:
        pki = Pki(self._directory)
        self._server = etcd_server(older(), self._directory, host=f"{self._mesh.net}.100")
        self._server.tls = (*pki.issue("etcd", address=self._server.host, hours=20), pki.roots)
        self._server.start()
        assert self._server.process is not None
        self._note(self._server.process.pid, "etcd")
        self._server.admit(SERVED, authority="a")
        operator = self._write("operator", "operator:operator-secret")
        os.environ |= {"MESHD_TOKEN_FILE": str(operator), "ETCDCTL_USER": operator.read_text()}
        os.environ |= self._server.environment

    def config(self, host: str) -> dict[str, Any]:
        account = self._write(host, f"{host}:{host}-secret")
        return self.server.settings(account)

    def put_key(self, show: Show, key: str, text: str) -> None:
        """With etcd's own command."""
        show.run(str(tool("etcdctl")), "put", f"mesh/v1/policy/{key}", stdin=text)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()

    def _write(self, name: str, account: str) -> Path:
        path = self._directory / f"{name}-account"
        path.touch(0o600)  # before the secret is in it
        path.write_text(account)
        return path


REGISTRIES: Mapping[str, Callable[[Cluster, Note], DemoRegistry]] = {
    "embedded": Embedded,
    "consul": Consul,
    "etcd": Etcd,
}
