"""Consul and etcd at once: a service moves under load, one of them is killed, other tools' services stay theirs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from signal import SIGCONT, SIGSTOP

import pytest

from tests.consul_server import ConsulServer
from tests.etcd_server import Server, etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import BIN, Cluster, http, wait_for
from tests.mesh.two_registries import SERVED, UPSTREAM, TwoRegistries, none_failed
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.mesh_long, pytest.mark.timeout(240)]

DB_PORT, OLD_PORT = 9102, 9103


class Story(TwoRegistries):
    """Home is a Consul with ACLs and TLS; beside it an etcd with accounts and TLS."""

    def __init__(self, mesh: Cluster, consul: ConsulServer, etcd: Server) -> None:
        self.consul, self.etcd = consul, etcd

        def home(host: str) -> dict[str, object]:
            path = mesh.directory / f"{host}-token"
            path.write_text(consul.host_token(host, SERVED[host], authority=host == "a"))
            return consul.settings(path)

        def beside(host: str) -> dict[str, object]:
            account = mesh.directory / f"{host}-account"
            account.write_text(f"{host}:{host}-secret")
            return etcd.settings(account) | {"Name": "etcd"}

        super().__init__(mesh, beside, home)

    def maintained(self) -> list[str]:
        """Services that Consul shows under maintenance."""
        checks = self.consul.call("GET", "/v1/health/checks/api")
        return [one["ServiceID"] for one in checks if one["Name"] == "Service Maintenance Mode"]


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("registries")) as mesh, pytest.MonkeyPatch.context() as patch:
        consul = ConsulServer(mesh.directory / "consul", f"{mesh.net}.100").start()
        etcd = etcd_server(older(), mesh.directory / "etcd", host=f"{mesh.net}.101")
        pki = Pki(mesh.directory / "etcd")
        etcd.tls = (*pki.issue("etcd", address=etcd.host, hours=20), pki.roots)
        try:
            etcd.start().admit(SERVED, authority="a")
            patch.setitem(os.environ, "MESHD_TOKEN_FILE", str(operator(mesh.directory, consul)))
            yield Story(mesh, consul, etcd)
            mesh.close()
        finally:
            etcd.stop()
            consul.kill()


def operator(directory: Path, consul: ConsulServer) -> Path:
    path = directory / "operator-token"
    path.write_text(consul.token(("operator.hcl", {})))
    return path


def test_a_service_moves_out_of_consul_and_back_under_load(story: Story) -> None:
    before = story.serials(), story.policies()
    load = story.load(25)
    for _ in range(2):
        story.migrate("etcd")
        assert story.consul.call("GET", "/v1/catalog/service/api") == []
        assert story.instances("etcd") == 2
        story.migrate("home")
        assert story.instances("etcd") == 0
        assert len(story.consul.call("GET", "/v1/health/service/api?passing")) == 2
        assert story.maintained() == []
    none_failed(load)
    assert (story.serials(), story.policies()) == before


def test_an_interrupted_move_goes_on_when_it_is_run_again(story: Story) -> None:
    load = story.load(12)
    story.b.pause()  # its instance does not move
    command = [str(BIN / "meshctl"), "--api", str(story.a.socket), "registry", "migrate", "--service", "api"]
    moving = subprocess.Popen([*command, "--to", "etcd", "--yes"], stderr=subprocess.PIPE, text=True)
    wait_for("one has moved", lambda: story.instances("etcd") == 1, 15)
    moving.terminate()
    moving.communicate()
    document = story.a.meshctl("get", "service-defaults/api").stdout
    assert "Registries: [home, etcd]" in document
    story.b.resume()
    story.migrate("etcd")
    assert story.instances("etcd") == 2
    story.migrate("home")
    none_failed(load)


def test_the_registry_that_holds_a_service_is_killed_and_nobody_notices(story: Story) -> None:
    story.migrate("etcd")
    load = story.load(30)
    story.etcd.stop()
    wait_for("noticed", lambda: not story.registries(story.a)["etcd"]["reachable"], 20)
    lost = story.registries(story.a)
    assert (lost["home"]["reachable"], lost["etcd"]["instances"]) == (True, 2), lost
    story.a.apply({"Kind": "mesh", "ExplainDenials": True})  # the home registry is followed as before
    story.a.kill()  # and a start with one registry lost knows what it held
    story.a.start()
    assert all(story.ok() for _ in range(20))
    story.etcd.start()
    wait_for("back", lambda: story.registries(story.a)["etcd"]["reachable"], 30)
    none_failed(load)
    wait_for("listed", lambda: story.instances("etcd") == 2, 20)
    story.migrate("home")


def test_the_home_registry_is_killed_and_the_other_is_followed(story: Story) -> None:
    story.migrate("etcd")
    load = story.load(20)
    story.consul.kill()
    wait_for("noticed", lambda: not story.registries(story.a)["home"]["reachable"], 30)
    story.apis[0].control(healthy=False)
    wait_for("critical", lambda: "critical" in story.a.meshctl("service", "api").stdout, 10)
    before = len([row for row in story.apis[0].requests() if row["path"] == "/hello"])
    assert all(story.ok() for _ in range(20))
    assert len([row for row in story.apis[0].requests() if row["path"] == "/hello"]) == before
    story.apis[0].control(healthy=True)
    wait_for("passing", lambda: "critical" not in story.a.meshctl("service", "api").stdout, 10)
    story.consul.start()
    wait_for("back", lambda: story.registries(story.a)["home"]["reachable"], 40)
    none_failed(load)
    story.migrate("home")


def test_what_other_tools_registered_is_named_and_not_moved(story: Story) -> None:
    db = story.mesh.app(story.b, "db", "db-1")
    definition = story.mesh.directory / "db.json"
    definition.write_text(json.dumps({"Service": {"Name": "db", "ID": "db-1", "Port": db.port, "Address": db.address}}))
    story.consul.command("services", "register", str(definition))
    done = story.a.meshctl("registry", "migrate", "--service", "db", "--to", "etcd", "--yes", check=False)
    assert done.returncode == 1
    assert "db/server/db-1 (in home)" in done.stderr
    assert http("GET", f"{story.a.api}/v1/kv/mesh/v1/policy/service-defaults/db").status == 404


class Beside(TwoRegistries):
    """Home is the embedded registry; beside it the Consul of a host that other tools know as well: b's agent."""

    def __init__(self, mesh: Cluster, consul: ConsulServer) -> None:
        self.consul = consul

        def beside(host: str) -> dict[str, object]:
            path = mesh.directory / f"{host}-token"
            path.write_text(consul.host_token(host, (*SERVED[host], *(("db",) if host == "b" else ()))))
            return consul.settings(path, "agent" if host == "b" else "agentless") | {"Name": "consul"}

        super().__init__(mesh, beside, served={"b": ("api", "db")})


@pytest.fixture(scope="module")
def beside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Beside]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("beside")) as mesh:
        consul = ConsulServer(mesh.directory / "consul", f"{mesh.net}.100", node="b").start()
        try:
            yield Beside(mesh, consul)
            mesh.close()
        finally:
            consul.kill()


def foreign(story: Beside, name: str, port: int) -> None:
    """Another tool registers a service with Consul, and web calls it on `port`."""
    app = story.mesh.app(story.b, name, f"{name}-1")
    check = {"HTTP": f"{app.url}/healthz", "Interval": "200ms", "Timeout": "1s", "Status": "passing"}
    service = {"Name": name, "Port": app.port, "Address": app.address, "Check": check}
    definition = story.mesh.directory / f"{name}.json"
    definition.write_text(json.dumps({"Service": service}))
    story.consul.command("services", "register", str(definition))
    story.a.apply({"Kind": "service-intentions", "Name": name, "Sources": [{"Name": "web", "Action": "allow"}]})
    ports = {"api": UPSTREAM, name: port}
    upstreams = [{"Service": one, "LocalBindPort": number} for one, number in ports.items()]
    story.a.register({"Name": "web", "ID": "web-1", "Port": story.web.port, "Mesh": {"Upstreams": upstreams}})


def test_services_of_a_consul_beside_are_part_of_the_mesh(beside: Beside) -> None:
    """With the mesh's mTLS where their host runs meshd and may serve them, else where the caller allows plaintext."""
    foreign(beside, "db", DB_PORT)
    beside.a.apply({"Kind": "service-defaults", "Name": "db", "Protocol": "http"})
    url = f"http://{beside.a.address}:{DB_PORT}/hello"
    wait_for("db is called", lambda: http("GET", url).status == 200, 20)
    (one,) = json.loads(beside.a.meshctl("service", "db", "-o", "json").stdout)["endpoints"]
    assert one["inbound"], "over mutual TLS"
    foreign(beside, "old", OLD_PORT)
    override = {"Name": "old", "AllowPlaintext": True}
    beside.a.apply({"Kind": "service-defaults", "Name": "old", "Protocol": "http"})
    url = f"http://{beside.a.address}:{OLD_PORT}/hello"
    wait_for("old is known and refused", lambda: http("GET", url).status == 503, 20)
    beside.a.apply({"Kind": "service-defaults", "Name": "web", "UpstreamConfig": {"Overrides": [override]}})
    wait_for("old is called in plaintext", lambda: http("GET", url).status == 200, 20)
    done = beside.a.meshctl("registry", "migrate", "--service", "db", "--to", "home", "--yes", check=False)
    assert done.returncode == 1
    assert "db/b/db (in consul)" in done.stderr


def test_a_service_moves_into_a_consul_by_way_of_the_hosts_agent(beside: Beside) -> None:
    before = beside.serials()
    load = beside.load(12)
    beside.migrate("consul")
    rows = beside.consul.call("GET", "/v1/health/service/api?passing")
    assert {row["Service"]["ID"]: row["Node"]["Node"] for row in rows} == {"api-1": "b", "api-2": "c"}
    beside.migrate("home")
    assert beside.consul.call("GET", "/v1/catalog/service/api") == []
    none_failed(load)
    assert beside.serials() == before


@pytest.fixture
def plain(tmp_path: Path) -> Iterator[tuple[TwoRegistries, Server]]:
    """Home is the embedded registry; an etcd without accounts beside it."""
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        etcd = etcd_server(older(), mesh.directory / "etcd", host=f"{mesh.net}.100").start()
        try:
            yield TwoRegistries(mesh, lambda host: etcd.settings() | {"Name": "etcd"}), etcd
            mesh.close()
        finally:
            etcd.stop()


def test_a_registry_beside_is_wiped_and_frozen_and_filled_again(plain: tuple[TwoRegistries, Server]) -> None:
    story, etcd = plain
    story.migrate("etcd")
    load = story.load(25)
    etcd.stop()
    etcd.wipe()
    etcd.start()
    wait_for("its hosts have filled it again", lambda: story.instances("etcd") == 2, 30)
    etcd.signal(SIGSTOP)
    wait_for("noticed", lambda: not story.registries(story.a)["etcd"]["reachable"], 20)
    assert story.ok()
    etcd.signal(SIGCONT)
    wait_for("back", lambda: story.registries(story.a)["etcd"]["reachable"], 20)
    none_failed(load)
    story.migrate("home")
    assert story.instances("etcd") == 0


def test_home_itself_moves_at_last(plain: tuple[TwoRegistries, Server]) -> None:
    """Services first, then what is left by backup and restore; then each host starts with the new home."""
    story, etcd = plain
    for service in ("api", "web"):
        story.a.meshctl("registry", "migrate", "--service", service, "--to", "etcd", "--yes", "--timeout=30s")
    before = story.serials(), story.policies()
    load = story.load(40)
    backup = story.mesh.directory / "mesh.backup"
    story.a.meshctl("registry", "backup", str(backup))
    for host in story.hosts:
        host.config["Registry"] = etcd.settings() | {"Name": "etcd"}
        del host.config["Registries"]
    story.a.config["Roles"] = ["ca"]
    story.a.meshctl("registry", "restore", str(backup), "--config", str(story.a.write_config()))
    for host in story.hosts:
        host.kill()
        host.start()
    none_failed(load)
    assert (story.serials(), story.policies()) == before
    for host in story.hosts:
        (only,) = story.registries(host).values()
        assert (only["name"], only["home"], only["reachable"], only["instances"]) == ("etcd", True, True, 3)
        wait_for("no warnings of doubt", lambda at=host: "doubt" not in at.meshctl("status", check=False).stdout, 10)
    story.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "deny"}]})
    wait_for("policy is followed in its new home", lambda: http("GET", story.url).status == 403, 10)
