"""Topologies of real meshd hosts: what is measured is what runs in production, control plane included."""

import http.client
import socket
from pathlib import Path

import msgspec

from registry import keys
from registry.model import Instance
from tests.bench import peers, procfs
from tests.bench.stage import Stage, Target
from tests.mesh.cluster import Cluster, Failed, Host, wait_for
from tests.mesh.cluster import http as request

UPSTREAM_PORT = 9101
EXTERNAL = "external"  # the node of an instance that is outside the mesh


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a host's api.sock, where root administers."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.connect(str(self._path))


def put_key(host: Host, key: str, value: bytes) -> None:
    """Write one key as the host's administrator."""
    connection = UnixConnection(host.socket)
    try:
        connection.request("PUT", f"/v1/kv/{key}", body=value)
        answer = connection.getresponse()
        if answer.status != 200 or answer.read().strip() != b"true":
            raise Failed(f"put of {key}: {answer.status}")
    finally:
        connection.close()


def cluster(stage: Stage) -> Cluster:
    mesh = Cluster(
        stage.directory / "mesh", net=stage.net, overrides={"Proxy": {"Threads": stage.workers}, "Development": True}
    )
    stage.on_close(mesh.close)
    return mesh


def hop(stage: Stage) -> Target:
    """client -> proxy -> nginx: the endpoint is outside the mesh, and the caller allows plaintext to it."""
    mesh = cluster(stage)
    host = mesh.first_host("a")
    address, _, port = peers.app(stage, host.address).partition(":")
    external = Instance(service="api", node=EXTERNAL, id="api-1", address=address, port=int(port))
    put_key(host, keys.lease(EXTERNAL), b"{}")
    put_key(host, keys.instance("api", EXTERNAL, "api-1"), msgspec.json.encode(external))
    plaintext = {"Defaults": {"AllowPlaintext": True}}
    host.apply({"Kind": "service-defaults", "Name": "web", "Protocol": "http", "UpstreamConfig": plaintext})
    start_caller(host)
    return target(mesh)


def pair(stage: Stage) -> Target:
    """client -> proxy -> mutual TLS -> proxy -> nginx, on two hosts."""
    return target(start_pair(stage))


def start_pair(stage: Stage) -> Cluster:
    """Host a with the registry, the authority and `web`, host b with `api`; the call is allowed and answered."""
    mesh = cluster(stage)
    first = mesh.first_host("a")
    second = mesh.join("b", ["api"])
    register_api(second, peers.app(stage, second.address))
    start_caller(first)
    return mesh


def register_api(host: Host, where: str) -> None:
    address, _, port = where.partition(":")
    host.register({"Name": "api", "ID": "api-1", "Address": address, "Port": int(port), "Mesh": {"Protocol": "http"}})


def start_caller(host: Host) -> None:
    """Registers `web` with its upstream `api`, allows the call, and waits until it is answered."""
    host.apply({"Kind": "mesh", "AccessLog": {"Enabled": False}})
    host.apply({"Kind": "service-defaults", "Name": "api", "Protocol": "http"})
    host.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
    mesh = {"Protocol": "http", "Upstreams": [{"Service": "api", "LocalBindPort": UPSTREAM_PORT}]}
    host.register({"Name": "web", "ID": "web-1", "Address": host.address, "Port": 9002, "Mesh": mesh})
    url = upstream_url(host)
    wait_for(f"an answer from {url}", lambda: request("GET", url, timeout=2).status == 200, 30)


def upstream_url(host: Host) -> str:
    return f"http://{host.address}:{UPSTREAM_PORT}/"


def target(mesh: Cluster) -> Target:
    hosts = mesh.hosts.values()
    return Target(
        upstream_url(mesh.authority), lambda: proxies(mesh), lambda: [pid for one in hosts for pid in control(one)]
    )


def proxies(mesh: Cluster) -> list[int]:
    found = [pid for host in mesh.hosts.values() for pid in host.proxy_pids()]
    if len(found) < len(mesh.hosts):
        raise Failed(f"{len(found)} proxies run on {len(mesh.hosts)} hosts")
    return found


def control(host: Host) -> list[int]:
    """meshd and its children, the proxy excepted."""
    if host.process is None:
        return []
    carried = set(host.proxy_pids())
    return [pid for pid in procfs.descendants(host.process.pid) if pid not in carried]
