"""web on host a (the authority) calls api on b and c, on any of the three registries of `tests.mesh.registries`."""

import json
import os
from typing import Any

from tests.demo.traffic import Load
from tests.mesh.cluster import AppProcess, Cluster, Failed, Host, http, wait_for

UPSTREAM = 9101
ALLOW = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}
HEADER = "x-policy"


def router(value: str) -> dict[str, object]:
    """A policy that shows by which of its versions a request was routed: api sees the header."""
    destination = {"RequestHeaders": {"Set": {HEADER: value}}}
    match = {"HTTP": {"PathPrefix": "/"}}
    return {"Kind": "service-router", "Name": "api", "Routes": [{"Match": match, "Destination": destination}]}


class ThreeHosts:
    """Up, policy applied, both instances serving."""

    def __init__(self, mesh: Cluster, registry: Any) -> None:
        """`registry`: `roles` of host a and `config(host)`; what else it can, the test knows."""
        self.mesh, self.registry = mesh, registry
        self.a = mesh.host("a", Roles=list(registry.roles), Registry=registry.config("a"))
        mesh.init_authority(self.a)
        self.a.start()
        self.b = mesh.join("b", ["api"], Registry=registry.config("b"))
        self.c = mesh.join("c", ["api"], Registry=registry.config("c"))
        self.hosts = (self.a, self.b, self.c)
        web = mesh.app(self.a, "web", "web-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.apis = {"api-b": self.serve(self.b, "api-b"), "api-c": self.serve(self.c, "api-c")}
        self.url = f"http://{self.a.address}:{UPSTREAM}/"
        for document in ({"Kind": "service-defaults", "Name": "api", "Protocol": "http"}, ALLOW, router("first")):
            self.a.apply(document, wait="30s")
        wait_for("both instances serve", self.both_serve, 30)

    def serve(self, host: Host, instance: str) -> AppProcess:
        app = self.mesh.app(host, "api", instance)
        check = {"HTTP": f"{app.url}/healthz", "Interval": "1s", "Timeout": "1s"}
        registration = {"Name": "api", "ID": instance, "Port": app.port, "Check": check, "Mesh": {"Protocol": "http"}}
        host.register(registration)
        return app

    def both_serve(self) -> bool:
        return http("GET", self.url).status == 200 and all(app.requests() for app in self.apis.values())

    # -- load

    def load(self, seconds: float) -> Load:
        """200 requests a second over 8 kept connections."""
        return Load(self.url, rate=200, count=int(200 * seconds))

    def total(self) -> int:
        return sum(len(app.requests()) for app in self.apis.values())

    def under_way(self, count: int = 300) -> None:
        before = self.total()
        wait_for("load is under way", lambda: self.total() - before >= count, 30, every=0.1)

    def under_load_nothing_fails(self) -> None:
        """A thousand requests, as they come."""
        report = self.load(5).result()
        assert report["failed"] == 0, report

    # -- what a host says

    def status(self, host: Host) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)
        return found

    def reachable(self, host: Host) -> bool:
        return bool(self.status(host)["registry"]["reachable"])

    def all_say(self, what: str, word: str, seconds: float = 40) -> None:
        """Every host's status has a warning with this word, and names what ends it."""
        for host in self.hosts:
            wait_for(f"{host.name}: {what}", lambda at=host: self._warned(at, word), seconds, every=0.2)  # type: ignore[misc]  # bound here

    def _warned(self, host: Host, word: str) -> bool:
        return any(word in one for one in self.status(host)["warnings"])

    def all_well(self, seconds: float = 60) -> None:
        """Every host hears the registry, believes it and holds nothing."""
        for host in self.hosts:
            wait_for(f"{host.name}: well", lambda at=host: self._well(at), seconds, every=0.2)  # type: ignore[misc]  # bound here
            assert "meshd_registry_store_foreign 0.0" in host.metrics()

    def _well(self, host: Host) -> bool:
        registry = self.status(host)["registry"]
        if registry["reachable"] and not registry["foreign"] and not registry["held"] and not registry["braked"]:
            return True
        raise Failed(str(registry))

    # -- policy

    def routed_by(self) -> str:
        """The version of the router that decides now, as the app saw it."""
        answer = http("GET", self.url)
        return str(answer.json()["headers"].get(HEADER, "")) if answer.status == 200 else f"status {answer.status}"

    def in_force(self, value: str, seconds: float = 30) -> None:
        wait_for(f"policy {value!r} decides", lambda: self.routed_by() == value, seconds)

    def without_operator(self) -> dict[str, str]:
        """Take the operator's token out of the environment of meshctl; give it back with `os.environ.update`."""
        return {name: os.environ.pop(name) for name in ("MESHD_TOKEN_FILE",) if name in os.environ}
