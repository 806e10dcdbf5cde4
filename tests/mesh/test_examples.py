"""The configurations of `deploy/examples` as they are: two hosts on each kind of registry, with the example policy.

Only addresses, ports, paths and the root's hash are other ones (`--set`); `Development` lets loopback be advertised.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.consul_server import ConsulServer
from tests.etcd_server import etcd_server, older
from tests.fakes.pki import Pki
from tests.mesh.cluster import BIN, PEER, ROOT, Cluster, Host, Process, http, wait_for
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

EXAMPLES = ROOT / "deploy" / "examples"
SERVED = {"a": ["web"], "b": ["api"]}
PORT = 8080  # of both applications, in the files
UPSTREAM = 9101

Settings = Mapping[str, object]  # `Registry` of a host: addresses and paths


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[Cluster]:
    tool("meshd-proxy")
    with Cluster(tmp_path) as made:
        yield made


@pytest.fixture
def consul(mesh: Cluster, tmp_path: Path) -> Iterator[dict[str, Settings]]:
    server = ConsulServer(tmp_path / "consul", f"{mesh.net}.100")
    try:
        server.start()
        found = {}
        for name, services in SERVED.items():
            token = tmp_path / f"consul-{name}"
            token.write_text(server.host_token(name, services, authority=name == "a"))
            found[name] = server.settings(token)
        (tmp_path / "operator").write_text(server.token(("operator.hcl", {})))
        yield found
    finally:
        server.kill()


@pytest.fixture
def etcd(mesh: Cluster, tmp_path: Path) -> Iterator[dict[str, Settings]]:
    pki = Pki(tmp_path / "pki")
    server = etcd_server(older(), tmp_path / "etcd", host=f"{mesh.net}.100")
    server.tls = (*pki.issue("etcd", address=server.host, hours=20), pki.roots)
    try:
        server.start()
        server.admit(SERVED, authority="a")
        found = {}
        for name in SERVED:
            account = tmp_path / f"etcd-{name}"
            account.write_text(f"{name}:{name}-secret")
            found[name] = server.settings(account)
        (tmp_path / "operator").write_text("operator:operator-secret")
        yield found
    finally:
        server.stop()


def sets(host: Host, more: Mapping[str, object]) -> list[str]:
    """`--set` for where this host is."""
    at = host.address
    given = {"DataDir": host.data_dir, "RunDir": host.run_dir, "Loopback": at, "Bind.Inbound": at, "Bind.Peer": at,
             "Advertise.Address": at, "Development": "true", **more}  # fmt: skip
    return [part for name, value in given.items() for part in ("--set", f"{name}={value}")]


def places(settings: Settings) -> dict[str, object]:
    """Addresses and paths of a registry, nothing else: kind and mode are the file's."""
    found = {f"Registry.{name}": value for name, value in settings.items() if name.endswith("File")}
    if "Addresses" in settings:
        addresses = settings["Addresses"]
        assert isinstance(addresses, list)
        found["Registry.Addresses"] = f"[{', '.join(map(str, addresses))}]"
    return found


def start(host: Host, kind: str, more: Mapping[str, object]) -> None:
    config = EXAMPLES / kind / f"{host.name}.yaml"
    host.directory.mkdir(parents=True, exist_ok=True)
    host.process = Process(host.name, [str(BIN / "meshd"), "run", "--config", str(config), *sets(host, more)], host.log)
    host.wait_ready(40)


def join(mesh: Cluster, directory: Path) -> dict[str, object]:
    """What b needs of the mesh: where a is, a token for it, and the root."""
    token = directory / "join-token"
    mesh.hosts["a"].meshctl("token", "create", "--node", "b", "--service", "api", "--out", str(token))
    return {"Join.Address": f"{mesh.hosts['a'].address}:{PEER}", "Join.TokenFile": token,
            "Join.RootHash": mesh.root_hash}  # fmt: skip


def story(mesh: Cluster, kind: str, registry: Mapping[str, Settings], directory: Path) -> None:
    a, b = mesh.host("a"), mesh.host("b")
    mesh.init_authority(a)
    start(a, kind, places(registry["a"]))
    apps = [mesh.app(a, "web", "web-1", port=PORT), mesh.app(b, "api", "api-1", port=PORT)]
    own = {"Registry.Address": f"{a.address}:{PEER}"} if kind == "embedded" else places(registry["b"])
    start(b, kind, own | join(mesh, directory))
    operator = ("--token-file", str(directory / "operator")) if (directory / "operator").exists() else ()
    documents = [part for name in ("mesh", "service-defaults", "resolver", "intentions")
                 for part in ("-f", str(EXAMPLES / "two-hosts" / f"{name}.yaml"))]  # fmt: skip
    a.meshctl(*operator, "apply", *documents, "--wait=30s")
    url = f"http://{a.address}:{UPSTREAM}"
    wait_for("web calls api", lambda: http("GET", f"{url}/hello").status == 200, 30)
    assert http("GET", f"{url}/admin").status == 403
    assert [one["path"] for one in apps[1].requests() if one["path"] in ("/hello", "/admin")] == ["/hello"]


def test_on_the_embedded_registry(mesh: Cluster, tmp_path: Path) -> None:
    story(mesh, "embedded", {"a": {}, "b": {}}, tmp_path)


@pytest.mark.mesh_long  # a server beside it: with the longer stories
def test_on_consul(mesh: Cluster, consul: dict[str, Settings], tmp_path: Path) -> None:
    story(mesh, "consul", consul, tmp_path)


@pytest.mark.mesh_long  # a server beside it: with the longer stories
def test_on_etcd(mesh: Cluster, etcd: dict[str, Settings], tmp_path: Path) -> None:
    story(mesh, "etcd", etcd, tmp_path)
