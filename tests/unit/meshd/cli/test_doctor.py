import json
from pathlib import Path

import msgspec

from meshd.config import Bind, Host, Ports, Registry, show
from tests.fakes.mesh_api import MeshApi
from tests.mesh.cluster import free_port
from tests.unit.meshd.cli.conftest import Run


def host(directory: Path) -> Host:
    """On ports that are free, with a registry that nobody serves."""
    api, admin, inbound, peer = (free_port("127.0.0.1") for _ in range(4))
    ports = Ports(api=api, admin=admin, inbound=inbound, peer=peer)
    registry = Registry(kind="etcd", addresses=("127.0.0.1:1",))
    return Host(node="a", data_dir=str(directory), run_dir=str(directory), ports=ports, registry=registry,
                bind=Bind(inbound="127.0.0.1", peer="127.0.0.1"))  # fmt: skip


def test_a_running_meshd_is_asked_for_its_settings(meshctl: Run, api: MeshApi, tmp_path: Path) -> None:
    api.answer("GET", "/v1/mesh/settings", dict(show(host(tmp_path))))
    done = meshctl("doctor", "-o", "json")
    assert done.returncode == 75, done.stderr
    found = {check["name"]: check["verdict"] for check in json.loads(done.stdout)}
    assert found["registry"] == "fail"
    assert found["port Ports.Api"] == "ok"


def test_before_the_first_start(meshctl: Run, tmp_path: Path) -> None:
    file = tmp_path / "meshd.yaml"
    given = host(tmp_path)
    file.write_bytes(msgspec.json.encode({"Node": "a", "DataDir": str(tmp_path / "data"), "RunDir": str(tmp_path),
                                          "Ports": msgspec.to_builtins(given.ports), "Roles": ["registry", "ca"],
                                          "Bind": {"Inbound": "127.0.0.1", "Peer": "127.0.0.1"}}))  # fmt: skip
    done = meshctl("doctor", "--config", str(file))
    assert done.returncode == 0, done.stdout
    assert done.stdout.splitlines()[0].split() == ["CHECK", "SEEN", "TO", "DO"]
    assert not (tmp_path / "data").exists(), "nothing is left behind"


def test_without_a_meshd_it_says_what_to_give(meshctl: Run, tmp_path: Path) -> None:
    done = meshctl("doctor", target=str(tmp_path / "none.sock"))
    assert done.returncode == 75
    assert "--config FILE" in done.stderr


def test_settings_of_another_version(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/settings", {"Node": "a", "Colour": "blue"})
    done = meshctl("doctor")
    assert done.returncode == 78
    assert "another version" in done.stderr
