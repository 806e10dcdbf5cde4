"""A mesh of three hosts with a home registry and one beside it, for stories about moving between them.

Host a: authority and `web`, which calls `api` on b and c. `beside` is the `Registries` entry of a host, `home` its
`Registry` section; without, host a holds the embedded registry.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tests.demo.traffic import Load
from tests.mesh.cluster import AppProcess, Cluster, Host, http, wait_for

UPSTREAM = 9101
RATE = 100  # requests a second
SERVED: Mapping[str, tuple[str, ...]] = {"a": ("web",), "b": ("api",), "c": ("api",)}
Section = Callable[[str], dict[str, Any]]  # by host


class TwoRegistries:
    """`url` leads from web to api. `served`: services that a host may serve, where they are not `SERVED`."""

    def __init__(
        self,
        mesh: Cluster,
        beside: Section,
        home: Section | None = None,
        served: Mapping[str, tuple[str, ...]] = {},
    ) -> None:
        self.mesh = mesh

        def config(host: str) -> dict[str, object]:
            return {"Registries": [beside(host)]} | ({"Registry": home(host)} if home is not None else {})

        if home is None:
            self.a = mesh.first_host("a", **config("a"))
        else:
            self.a = mesh.host("a", Roles=["ca"], **config("a"))
            mesh.init_authority(self.a)
            self.a.start()
        self.b, self.c = (mesh.join(name, served.get(name, SERVED[name]), **config(name)) for name in "bc")
        self.hosts = (self.a, self.b, self.c)
        self.web = mesh.app(self.a, "web", "web-1")
        self.apis = [self.serve(self.b, "api-1"), self.serve(self.c, "api-2")]
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": self.web.port, "Mesh": {"Upstreams": upstreams}})
        self.a.apply({"Kind": "service-defaults", "Name": "api", "Protocol": "http"})
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
        self.url = f"http://{self.a.address}:{UPSTREAM}/hello"
        wait_for("both serve", self.both_serve, 20)

    def serve(self, host: Host, instance: str) -> AppProcess:
        app = self.mesh.app(host, "api", instance)
        check = {"HTTP": f"{app.url}/healthz", "Interval": "200ms", "Timeout": "1s", "Status": "passing"}
        host.register({"Name": "api", "ID": instance, "Port": app.port, "Check": check})
        return app

    def both_serve(self) -> bool:
        return self.ok() and all(app.requests() for app in self.apis)

    def ok(self) -> bool:
        return http("GET", self.url).status == 200

    def serials(self) -> dict[str, str]:
        """Of the certificates that b and c hold."""
        told = [json.loads(host.meshctl("cert", "list", "-o", "json").stdout) for host in (self.b, self.c)]
        return {row["name"]: row["serial"] for rows in told for row in rows}

    def policies(self) -> dict[str, str]:
        """Digest of each document but those that say where a service is."""
        rows = json.loads(self.a.meshctl("get", "-o", "json").stdout)
        return {f"{row['kind']}/{row['name']}": row["digest"] for row in rows if row["kind"] != "service-defaults"}

    def registries(self, host: Host) -> dict[str, Any]:
        """`registry list` of a host, by name."""
        return {row["name"]: row for row in json.loads(host.meshctl("registry", "list", "-o", "json").stdout)}

    def instances(self, registry: str) -> int:
        found: int = self.registries(self.a)[registry]["instances"]
        return found

    def migrate(self, goal: str) -> None:
        self.a.meshctl("registry", "migrate", "--service", "api", "--to", goal, "--yes", "--timeout=30s")

    def load(self, seconds: float) -> Load:
        return Load(self.url, rate=RATE, count=int(RATE * seconds))


def none_failed(load: Load) -> None:
    report = load.result()
    assert report["failed"] == 0, report
