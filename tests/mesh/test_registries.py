"""A service moves from one registry to another and back under load: no request fails, no identity is made anew."""

from collections.abc import Iterator

import pytest

from tests.etcd_server import Server, etcd_server, older
from tests.mesh.cluster import Cluster
from tests.mesh.two_registries import TwoRegistries, none_failed
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

STORED = {"mesh/v1/services/api/b/api-1", "mesh/v1/services/api/c/api-2"}


@pytest.fixture
def etcd(mesh: Cluster) -> Iterator[Server]:
    directory = mesh.directory
    server = etcd_server(older(), directory / "etcd", host=f"{mesh.net}.100").start()
    yield server
    server.stop()


@pytest.fixture
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("registries")) as mesh:
        yield mesh


@pytest.fixture
def story(mesh: Cluster, etcd: Server) -> Iterator[TwoRegistries]:
    yield TwoRegistries(mesh, lambda host: etcd.settings() | {"Name": "etcd"})
    mesh.close()


def in_etcd(etcd: Server) -> set[str]:
    return set(etcd.etcdctl("get", "--prefix", "--keys-only", "mesh/v1/services/").split())


def test_a_service_moves_there_and_back_under_load(story: TwoRegistries, etcd: Server) -> None:
    before = story.serials(), story.policies()
    load = story.load(5)
    story.migrate("etcd")
    assert in_etcd(etcd) == STORED
    assert (story.instances("home"), story.instances("etcd")) == (1, 2)
    done = story.a.meshctl("registry", "diff", "home", "etcd", check=False)
    assert (done.returncode, done.stdout.count("only in etcd")) == (1, 2)
    story.migrate("home")
    assert in_etcd(etcd) == set()
    none_failed(load)
    assert (story.serials(), story.policies()) == before
    assert "Protocol: http" in story.a.meshctl("get", "service-defaults/api").stdout
