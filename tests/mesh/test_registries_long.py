"""Consul and etcd at once: a service moves under load, one of them is killed, other tools' services stay theirs."""

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.consul_server import ConsulServer
from tests.etcd_server import Server, etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import BIN, Cluster, http, wait_for
from tests.mesh.two_registries import SERVED, TwoRegistries, none_failed
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.mesh_long, pytest.mark.timeout(240)]

DB_PORT = 9102


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
