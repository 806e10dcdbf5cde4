"""Two real hosts on a foreign registry: `web` on a calls `api` and `bulk` on b."""

from collections.abc import Mapping
from functools import partial
from typing import Any

from tests.bench import hosts, peers
from tests.bench.stage import Stage
from tests.mesh.cluster import Cluster, wait_for
from tests.mesh.cluster import http as request

API_PORT, BULK_PORT = 9101, 9102
SERVED = ("api", "bulk")


def start(stage: Stage, registry: Mapping[str, Any], upstreams: Mapping[str, int] | None = None) -> Cluster:
    """All calls are allowed and answered; further `upstreams` of web (service, port) are only declared."""
    mesh = hosts.cluster(stage)
    first = mesh.host("a", Roles=["ca"], Registry=dict(registry))
    mesh.init_authority(first)
    first.start()
    second = mesh.join("b", SERVED, Registry=dict(registry))
    address, _, at = peers.app(stage, second.address).partition(":")
    first.apply({"Kind": "mesh", "AccessLog": {"Enabled": False}})
    for name in SERVED:
        app = {"Name": name, "ID": f"{name}-1", "Address": address, "Port": int(at), "Mesh": {"Protocol": "http"}}
        second.register(app)
        first.apply({"Kind": "service-defaults", "Name": name, "Protocol": "http"})
        first.apply({"Kind": "service-intentions", "Name": name, "Sources": [{"Name": "web", "Action": "allow"}]})
    called = {"api": API_PORT, "bulk": BULK_PORT, **(upstreams or {})}
    declared = [{"Service": name, "LocalBindPort": port} for name, port in called.items()]
    web = {"Name": "web", "ID": "web-1", "Address": first.address, "Port": 9002}
    first.register({**web, "Mesh": {"Protocol": "http", "Upstreams": declared}})
    for port in (API_PORT, BULK_PORT):
        wait_for(f"{port} answers", partial(_answers, url(mesh, port)), 30)
    return mesh


def _answers(where: str) -> bool:
    return request("GET", where, timeout=2).status == 200


def url(mesh: Cluster, port: int) -> str:
    return f"http://{mesh.authority.address}:{port}/"
