"""Moving house and coming back from a backup: policy is unchanged, and requests do not notice."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consul_server import ConsulServer
from tests.demo.traffic import Load
from tests.etcd_server import Server, etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import Cluster, Host, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(180)]

PORT = 9101
SERVED = {"a": ("web",), "b": ("api",)}
DENIED = "/admin"
PERMISSIONS = [
    {"Action": "deny", "HTTP": {"PathPrefix": DENIED}},
    {"Action": "allow", "HTTP": {"PathPrefix": "/"}},
]
INTENTION = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Permissions": PERMISSIONS}]}


class Story:
    """web on a (authority) calls api on b; etcd with accounts and TLS, wiped and all."""

    def __init__(self, mesh: Cluster, directory: Path) -> None:
        pki = Pki(directory)
        self.etcd: Server = etcd_server(older(), directory / "etcd", host=f"{mesh.net}.100")
        self.etcd.tls = (*pki.issue("etcd", address=self.etcd.host, hours=20), pki.roots)
        self.etcd.start()
        self.etcd.admit(SERVED, authority="a")
        self.accounts = {name: directory / f"account-{name}" for name in (*SERVED, "root")}
        for name, file in self.accounts.items():
            file.write_text(f"{name}:{name}-secret")
        self.a = mesh.host("a", Roles=["ca"], Registry=self.etcd.settings(self.accounts["a"]))
        mesh.init_authority(self.a)
        self.a.start()
        self.b = mesh.join("b", ["api"], Registry=self.etcd.settings(self.accounts["b"]))
        web, api = mesh.app(self.a, "web", "web-1"), mesh.app(self.b, "api", "api-1")
        upstreams = [{"Service": "api", "LocalBindPort": PORT}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
        self.as_root("apply", "-f", "-", "--wait=20s", stdin=json.dumps(INTENTION))
        self.url = f"http://{self.a.address}:{PORT}"
        wait_for("the call passes", lambda: self.allowed() == 200, 20)

    def as_root(self, *args: str, stdin: str | None = None) -> str:
        """meshctl at a's api.sock, with etcd's root account."""
        return self.a.meshctl("--token-file", str(self.accounts["root"]), *args, stdin=stdin).stdout

    def allowed(self) -> int:
        return http("GET", f"{self.url}/hello").status

    def denied(self) -> int:
        return http("GET", self.url + DENIED).status

    def close(self) -> None:
        self.etcd.stop()


def foreign(host: Host) -> str:
    found: dict[str, Any] = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)["registry"]
    return str(found["foreign"])


@pytest.fixture
def story(tmp_path: Path) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as mesh:
        made = Story(mesh, tmp_path)
        try:
            yield made
            mesh.close()
        finally:
            made.close()


def test_a_wiped_etcd_is_restored_under_load(story: Story, tmp_path: Path) -> None:
    file = tmp_path / "mesh.backup"
    story.as_root("registry", "backup", str(file))
    load = Load(f"{story.url}/hello", rate=100, count=4000)
    story.etcd.stop()
    story.etcd.wipe()
    story.etcd.start()
    story.etcd.admit(SERVED, authority="a")
    for host in (story.a, story.b):
        wait_for("the store is in doubt", lambda at=host: "wiped" in foreign(at), 40)  # type: ignore[misc]  # bound here
    assert (story.allowed(), story.denied()) == (200, 403)
    looked = json.loads(story.as_root("registry", "restore", str(file), "--dry-run", "-o", "json"))
    assert {one["key"]: one["verdict"] for one in looked["keys"]}["mesh/v1/policy/service-intentions/api"] == "new"
    story.as_root("registry", "restore", str(file))
    for host in (story.a, story.b):
        wait_for("the alarm has ended", lambda at=host: not foreign(at), 40)  # type: ignore[misc]  # bound here
        assert "meshd_registry_store_foreign 0.0" in host.metrics()
        assert "registry adopt" not in host.meshctl("status", check=False).stdout
    report = load.result()
    assert report["failed"] == 0, report
    assert report["ok"] == 4000
    assert (story.allowed(), story.denied()) == (200, 403)
    changed = {**INTENTION, "Sources": []}
    story.as_root("apply", "-f", "-", "--wait=20s", stdin=json.dumps(changed))
    wait_for("the restored store is followed", lambda: story.allowed() == 403, 20)


def test_a_wiped_embedded_registry_is_restored(tmp_path: Path) -> None:
    """Backup and restore at the api.sock of the registry's host, as root."""
    with Cluster(tmp_path) as mesh:
        a, b = mesh.first_host("a"), mesh.join("b", ["api"])
        a.apply(INTENTION)
        file = tmp_path / "mesh.backup"
        assert b.meshctl("registry", "backup", str(file), check=False).returncode == 1, "a joined host may not read ca/"
        a.meshctl("registry", "backup", str(file))
        a.kill()
        for path in a.data_dir.glob("registry.sqlite*"):
            path.unlink()
        a.start()
        for host in (a, b):
            wait_for("the store is in doubt", lambda at=host: "wiped" in foreign(at), 40)  # type: ignore[misc]  # bound here
        done = json.loads(a.meshctl("registry", "restore", str(file), "-o", "json").stdout)
        assert {one["key"]: one["verdict"] for one in done["keys"]}["mesh/v1/store-id"] == "new"
        for host in (a, b):
            wait_for("the alarm has ended", lambda at=host: not foreign(at), 40)  # type: ignore[misc]  # bound here
        assert "PathPrefix" in b.meshctl("get", "service-intentions/api").stdout


def test_a_mesh_moves_from_the_embedded_registry_to_consul_and_etcd(tmp_path: Path) -> None:
    """Its documents and trust; the hosts' configurations name the new store then."""
    with Cluster(tmp_path) as mesh:
        a = mesh.first_host("a")
        a.apply(INTENTION)
        file = tmp_path / "mesh.backup"
        a.meshctl("registry", "backup", str(file))
        consul = ConsulServer(tmp_path / "consul", f"{mesh.net}.100")
        etcd = etcd_server(older(), tmp_path / "etcd", host=f"{mesh.net}.101")
        token = tmp_path / "token"
        token.write_text(consul.management)
        try:
            consul.start()
            etcd.start()
            for number, settings in enumerate((consul.settings(token), etcd.settings())):
                new = mesh.host(f"new-{number}", Roles=["ca"], Registry=settings)
                done = a.meshctl("registry", "restore", str(file), "--config", str(new.write_config()), "-o", "json")
                assert {one["verdict"] for one in json.loads(done.stdout)["keys"]} == {"new"}
            stored = consul.command("kv", "get", "-recurse", "mesh/v1/").stdout
            assert "mesh/v1/policy/service-intentions/api" in stored
            assert "mesh/v1/store-id" in etcd.etcdctl("get", "--prefix", "--keys-only", "mesh/v1/")
        finally:
            consul.kill()
            etcd.stop()


def test_a_token_that_may_not_read_everything_makes_no_backup(tmp_path: Path) -> None:
    """Consul leaves what it may not show out of a listing: half a backup would look whole."""
    with Cluster(tmp_path) as mesh:
        consul = ConsulServer(tmp_path / "consul", f"{mesh.net}.100")
        consul.start()
        try:
            token = tmp_path / "token"
            token.write_text(consul.host_token("a", []))
            host = mesh.host("a", Roles=["ca"], Registry=consul.settings(token))
            command = ("registry", "backup", str(tmp_path / "b"), "--config", str(host.write_config()))
            done = host.meshctl(*command, check=False)
            assert done.returncode == 1
            assert "mesh/v1/ca/" in done.stderr
            assert not (tmp_path / "b").exists()
        finally:
            consul.kill()
