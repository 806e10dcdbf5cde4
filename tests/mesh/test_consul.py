"""A mesh on a real Consul with ACLs and TLS: foreign services, maintenance, a restart of Consul under load.

Host a is the authority and writes into the catalogue itself (`agentless`); host b registers with the agent of its own
node (`agent`), which is the test's one Consul.
"""

import http.client
import json
import os
import ssl
import time
from collections.abc import Iterator

import pytest

from tests.consul_server import ConsulServer
from tests.demo.traffic import Load
from tests.mesh.cluster import PEER, Cluster, wait_for
from tests.mesh.cluster import http as ask
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(180)]

API_PORT, DB_PORT, LEGACY_PORT = 9101, 9102, 9103
HTTP_DB = {"Kind": "service-defaults", "Name": "db", "Protocol": "http"}
PLAINTEXT = {
    "Kind": "service-defaults",
    "Name": "web",
    "UpstreamConfig": {"Overrides": [{"Name": "db", "AllowPlaintext": True}]},
}


class Story:
    """web on a calls api on b (meshed, two instances) and db (registered with `consul services register`)."""

    def __init__(self, mesh: Cluster, consul: ConsulServer) -> None:
        self.mesh, self.consul = mesh, consul
        self.a = mesh.host("a", Roles=["ca"], Registry=self.section("a", ["web"], authority=True))
        mesh.init_authority(self.a)
        self.a.start()
        self.b = mesh.join("b", ["api", "legacy"], Registry=self.section("b", ["api", "legacy"], mode="agent"))
        self.web = mesh.app(self.a, "web", "web-1")
        self.apis = [mesh.app(self.b, "api", f"api-{n}") for n in (1, 2)]
        self.db = mesh.app(self.b, "db", "db-1")
        self.legacy = mesh.app(self.b, "legacy", "legacy-1")
        names = (("api", API_PORT), ("db", DB_PORT), ("legacy", LEGACY_PORT))
        upstreams = [{"DestinationName": name, "LocalBindPort": port} for name, port in names]
        sidecar = {"SidecarService": {"Proxy": {"Upstreams": upstreams}}}  # as a Consul Connect definition has it
        self.a.register({"Name": "web", "ID": "web-1", "Port": self.web.port, "Connect": sidecar})
        for app in self.apis:
            check = {"HTTP": f"{app.url}/healthz", "Interval": "1s", "Timeout": "1s"}
            self.b.register(
                {"Name": "api", "ID": app.instance, "Port": app.port, "Check": check, "Mesh": {"Protocol": "http"}}
            )

    def section(
        self, node: str, services: list[str], *, authority: bool = False, mode: str = "agentless"
    ) -> dict[str, object]:
        path = self.consul.directory / f"{node}-token"
        path.write_text(self.consul.host_token(node, services, authority=authority))
        return self.consul.settings(path, mode)

    def url(self, port: int) -> str:
        return f"http://{self.a.address}:{port}/hello"

    def becomes(self, port: int, status: int, seconds: float = 20) -> None:
        wait_for(f"status {status}", lambda: ask("GET", self.url(port)).status == status, seconds)

    def total(self) -> int:
        return sum(len(app.requests()) for app in self.apis)


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    directory = tmp_path_factory.mktemp("consul")
    with Cluster(directory) as mesh, pytest.MonkeyPatch.context() as patch:
        consul = ConsulServer(directory / "consul", f"{mesh.net}.100", node="b")
        consul.start()
        try:
            operator = directory / "operator-token"
            operator.write_text(consul.token(("operator.hcl", {})))
            patch.setitem(os.environ, "MESHD_TOKEN_FILE", str(operator))
            made = Story(mesh, consul)
            made.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
            made.becomes(API_PORT, 200)
            yield made
            mesh.close()
        finally:
            consul.kill()


def test_a_meshed_service_is_called_over_mutual_tls(story: Story) -> None:
    assert ask("GET", story.url(API_PORT)).json()["app"] == "api"
    seen = [dict(row["headers"]) for app in story.apis for row in app.requests() if row["path"] == "/hello"]
    assert {headers["x-meshd-source"] for headers in seen} == {"spiffe://mesh.local/svc/web/n/a/i/web-1"}
    rows = story.consul.call("GET", "/v1/health/service/api?passing")
    assert {row["Service"]["ID"]: row["Node"]["Node"] for row in rows} == {"api-1": "b", "api-2": "b"}
    assert story.consul.call("GET", "/v1/health/service/web?passing")[0]["Node"]["Node"] == "a"


def test_port_15444_serves_the_authority_alone(story: Story) -> None:
    identity = story.b.data_dir / "identity"
    context = ssl.create_default_context(cafile=str(identity / "roots.pem"))
    context.check_hostname = False  # the name is of the trust domain, the address is dialled
    context.load_cert_chain(identity / "node.crt", identity / "node.key")
    answers = {}
    for path in ("/v1/roots", "/v1/kv/mesh/v1/store-id", "/v1/catalog/services", "/v1/status/leader"):
        connection = http.client.HTTPSConnection(story.a.address, PEER, context=context, timeout=10)
        connection.request("GET", path)
        answers[path] = connection.getresponse().status
        connection.close()
    assert answers.pop("/v1/roots") == 200
    assert set(answers.values()) == {404}


def test_a_foreign_service_is_refused_until_its_caller_allows_plaintext(story: Story) -> None:
    definition = story.mesh.directory / "db.json"
    service = {"Name": "db", "ID": "db 1", "Port": story.db.port, "Address": story.db.address}
    check = {"HTTP": f"{story.db.url}/healthz", "Interval": "200ms", "Timeout": "1s", "Status": "passing"}
    definition.write_text(json.dumps({"Service": service | {"Check": check}}))
    story.consul.command("services", "register", str(definition))
    story.a.apply(HTTP_DB)
    wait_for("db is known", lambda: "db" in story.a.meshctl("services").stdout, 10)
    story.becomes(DB_PORT, 503)
    assert not [row for row in story.db.requests() if row["path"] == "/hello"]
    story.a.apply(PLAINTEXT)
    story.becomes(DB_PORT, 200)
    assert story.db.requests()[-1]["path"] == "/hello"
    story.db.control(healthy=False)
    story.becomes(DB_PORT, 503)
    story.db.control(healthy=True)
    story.becomes(DB_PORT, 200)
    story.consul.command("services", "deregister", "-id", "db 1")
    story.becomes(DB_PORT, 503, 10)


def test_what_another_tool_registers_on_a_host_with_meshd_gets_its_mutual_tls(story: Story) -> None:
    """If the host is entitled to it; its sidecar's upstreams are its own here."""
    upstream = {"destination_name": "api", "local_bind_port": LEGACY_PORT}
    sidecar = {"sidecar_service": {"proxy": {"upstreams": [upstream]}}}
    service = {"Name": "legacy", "Port": story.legacy.port, "Address": story.legacy.address, "Connect": sidecar}
    check = {"HTTP": f"{story.legacy.url}/healthz", "Interval": "200ms", "Timeout": "1s", "Status": "passing"}
    definition = story.mesh.directory / "legacy.json"
    definition.write_text(json.dumps({"Service": service | {"Check": check}}))
    story.a.apply({"Kind": "service-defaults", "Name": "legacy", "Protocol": "http"})
    allow = {"Sources": [{"Name": "web", "Action": "allow"}, {"Name": "legacy", "Action": "allow"}]}
    for name in ("legacy", "api"):
        story.a.apply({"Kind": "service-intentions", "Name": name} | allow)
    for _ in range(2):  # and again: its tool knows nothing of the mesh's part, and writes it away
        story.consul.command("services", "register", str(definition))
        story.becomes(LEGACY_PORT, 200)
    heads = [dict(row["headers"]) for row in story.legacy.requests() if row["path"] == "/hello"]
    assert {head["x-meshd-source"] for head in heads} == {"spiffe://mesh.local/svc/web/n/a/i/web-1"}
    own = f"http://{story.b.address}:{LEGACY_PORT}/from-legacy"
    wait_for("its upstream leads to api", lambda: ask("GET", own).status == 200, 10)
    seen = [dict(row["headers"]) for app in story.apis for row in app.requests() if row["path"] == "/from-legacy"]
    assert {head["x-meshd-source"] for head in seen} == {"spiffe://mesh.local/svc/legacy/n/b/i/legacy"}
    story.legacy.control(healthy=False)
    story.becomes(LEGACY_PORT, 503)
    story.legacy.control(healthy=True)
    story.becomes(LEGACY_PORT, 200)


def test_consul_maint_takes_an_instance_out_of_new_requests(story: Story) -> None:
    story.consul.command("maint", "-enable", "-service", "api-1", "-reason", "by hand")

    def out() -> bool:
        before = len(story.apis[0].requests())
        assert all(ask("GET", story.url(API_PORT)).status == 200 for _ in range(20))
        return len([row for row in story.apis[0].requests()[before:] if row["path"] == "/hello"]) == 0

    wait_for("no new requests for api-1", out, 10)
    story.consul.command("maint", "-disable", "-service", "api-1")
    wait_for("api-1 is back", lambda: not out(), 10)


def test_consul_restarts_under_load_and_no_request_fails(story: Story) -> None:
    load = Load(story.url(API_PORT), rate=200, count=4000)
    before = story.total()
    wait_for("load is under way", lambda: story.total() - before > 300, 20, every=0.1)
    story.consul.end()
    wait_for("the hosts notice", lambda: "NOT REACHABLE" in story.a.meshctl("status", check=False).stdout, 30)
    time.sleep(3)  # sleep: the outage itself
    story.consul.start()
    wait_for("the registry is back", lambda: "NOT REACHABLE" not in story.a.meshctl("status", check=False).stdout, 30)
    report = load.result()
    assert report["failed"] == 0, report
    assert report["ok"] == 4000
    story.a.apply({"Kind": "mesh", "ExplainDenials": True})  # and policy is followed again


def test_a_host_that_stops_leaves_by_maintenance(story: Story) -> None:
    assert story.b.stop() == 0
    checks = story.consul.call("GET", "/v1/health/checks/api")
    assert {one["Notes"] for one in checks if one["Name"] == "Service Maintenance Mode"} == {"meshd: withdrawn"}
    story.becomes(API_PORT, 503)
    left = story.consul.call("GET", "/v1/health/service/legacy?passing")
    assert [row["Service"]["ID"] for row in left] == ["legacy"], "it stays for those who call it without the mesh"
    assert "meshd" not in left[0]["Service"]["TaggedAddresses"]
    story.b.start()
    story.becomes(LEGACY_PORT, 200)
    story.becomes(API_PORT, 200)
    assert len(story.consul.call("GET", "/v1/health/service/api?passing")) == 2
