"""`meshctl doctor` on real registries: a right that is taken away, or given too freely, is one line that names it."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consul_server import ConsulServer
from tests.etcd_server import Server, etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import Cluster, Host
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

Lines = dict[str, dict[str, Any]]


def doctor(host: Host, *more: str) -> tuple[int, Lines]:
    """Exit code, and the lines by name."""
    done = host.meshctl("doctor", "-o", "json", *more, check=False)
    assert done.stdout, done.stderr
    return done.returncode, {line["name"]: line for line in json.loads(done.stdout)}


def offline(host: Host) -> tuple[int, Lines]:
    return doctor(host, "--config", str(host.write_config()))


def rights(lines: Lines, *verdicts: str) -> set[str]:
    return {name for name, line in lines.items() if name.startswith("right") and line["verdict"] in verdicts}


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Cluster]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as made:
        yield made


SERVICES = [{"Name": "web", "Port": 8080}]


def test_on_consul_with_acls(mesh: Cluster, tmp_path: Path) -> None:
    consul = ConsulServer(tmp_path / "consul", f"{mesh.net}.100")
    consul.start()
    try:
        file = tmp_path / "token"
        host = mesh.host("b", Registry=consul.settings(file), Services=SERVICES, Join={"Address": f"{mesh.net}.99:1",
                         "TokenFile": "x", "RootHash": "0" * 64})  # fmt: skip
        before = consul.command("kv", "export", "mesh/").stdout
        file.write_text(consul.host_token("b", ["web"]))
        code, lines = offline(host)
        assert code == 0, lines
        assert not rights(lines, "warn", "fail"), lines
        assert {"right write service web", "right write session b", "right read policy/"} <= rights(lines, "ok")
        assert lines[f"clock registry {consul.url}"]["verdict"] == "ok"
        assert "1.8.7" in lines["version consul"]["seen"]

        file.write_text(consul.host_token("b", []))
        assert rights(offline(host)[1], "fail") == {"right write service web"}
        file.write_text(consul.host_token("other", ["web"]))
        code, lines = offline(host)
        assert code == 1
        assert "missing: write mesh/v1/leases/b" in lines["right write leases/b"]["seen"]
        file.write_text(
            consul.token(("host.hcl", {"NODE": "b"}), ("service.hcl", {"SERVICE": "web"}), ("operator.hcl", {}))
        )
        code, lines = offline(host)
        assert code == 0
        assert "right write policy/service-intentions/…" in rights(lines, "warn")
        file.write_text(consul.management)
        assert "right write acl" in rights(offline(host)[1], "warn")
        assert consul.command("kv", "export", "mesh/").stdout == before, "nothing is left behind"
        assert consul.call("GET", "/v1/session/list") == []

        consul.end()
        code, lines = offline(host)
        assert (code, lines["registry"]["verdict"]) == (75, "fail")
    finally:
        consul.kill()


@pytest.fixture
def etcd(mesh: Cluster, tmp_path: Path) -> Iterator[Server]:
    pki = Pki(tmp_path / "pki")
    server = etcd_server(older(), tmp_path / "etcd", host=f"{mesh.net}.100")
    server.tls = (*pki.issue("etcd", address=server.host, hours=20), pki.roots)
    try:
        server.start()
        server.admit({"a": [], "b": ["web"]}, authority="a")
        yield server
    finally:
        server.stop()


def test_on_etcd_with_accounts(mesh: Cluster, etcd: Server, tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.write_text("b:b-secret")
    host = mesh.host("b", Registry=etcd.settings(account), Services=SERVICES,
                     Join={"Address": f"{mesh.net}.99:1", "TokenFile": "x", "RootHash": "0" * 64})  # fmt: skip
    revision = etcd.etcdctl("get", "x", "-w", "json", user="root:root-secret")
    code, lines = offline(host)
    assert code == 0, lines
    assert not rights(lines, "warn", "fail"), lines
    assert {"right write services/web/b/", "right write leases/b", "right read policy/"} <= rights(lines, "ok")
    assert "CVE-2026-" in lines["version etcd"]["seen"]
    assert lines["certificate CertFile"]["verdict"] == "ok"
    assert etcd.etcdctl("get", "x", "-w", "json", user="root:root-secret") == revision, "nothing was written"

    etcd.etcdctl("role", "revoke-permission", "mesh-host-b", "mesh/v1/nodes/b", "mesh/v1/nodes/b\x01",
                 user="root:root-secret")  # fmt: skip
    code, lines = offline(host)
    assert code == 1
    assert rights(lines, "fail") == {"right write nodes/b"}
    assert lines["right write nodes/b"]["seen"] == "missing: write mesh/v1/nodes/b"
    etcd.etcdctl("user", "grant-role", "b", "mesh-operator", user="root:root-secret")
    assert "right write policy/service-intentions/…" in rights(offline(host)[1], "warn")
    etcd.etcdctl("user", "revoke-role", "b", "mesh-read", user="root:root-secret")
    assert {"right read leases/", "right read services/"} <= rights(offline(host)[1], "fail")


def test_a_registry_beside_the_home_one(mesh: Cluster, etcd: Server, tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.write_text("a:a-secret")
    host = mesh.first_host("a", Registries=[{"Name": "beside", **etcd.settings(account)}])
    code, lines = doctor(host)
    assert code == 0, lines
    assert lines["registry of beside"]["verdict"] == "ok"
    assert "right write leases/a of beside" in rights(lines, "ok")
    assert not any("policy" in name for name in rights(lines, "ok", "warn", "fail"))
    account.write_text("b:b-secret")
    code, lines = doctor(host)
    assert (code, lines["right write leases/a of beside"]["verdict"]) == (1, "fail")


def test_on_the_embedded_registry_against_running_hosts(mesh: Cluster) -> None:
    a = mesh.first_host("a")
    b = mesh.join("b", services=["api"])
    api = mesh.app(b, "api", "api-1")
    b.register({"Name": "api", "ID": "api-1", "Port": api.port, "Mesh": {"Protocol": "http"}})
    for host in (a, b):
        code, lines = doctor(host)
        assert code == 0, lines
        for port in ("Ports.Api", "Ports.Inbound", "Ports.Admin"):
            assert "held by our" in lines[f"port {port}"]["seen"]
        assert lines["certificate node"]["verdict"] == "ok"
        assert any(name.startswith("open files proxy") for name in lines)
    assert {"right write services/api/b/", "right write leases/b", "rights beyond"} <= rights(lines, "ok")
    assert lines["certificate api/api-1"]["verdict"] == "ok"
    assert lines[f"clock authority {a.address}:15444"]["verdict"] == "ok"
    (b.data_dir / "identity" / "node.key").chmod(0o644)
    code, lines = doctor(b)
    assert (code, lines["permissions"]["verdict"]) == (1, "fail")
    assert "identity/node.key" in lines["permissions"]["seen"]
    (b.data_dir / "identity" / "node.key").chmod(0o600)
    a.stop()
    code, lines = doctor(b)
    assert (code, lines["registry"]["verdict"]) == (75, "fail")
