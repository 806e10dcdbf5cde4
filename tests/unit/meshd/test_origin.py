"""Where each effective setting comes from."""

import json
from pathlib import Path

import pytest

from meshd.config import ConfigError
from meshd.origin import origin, render, rows


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "host.yaml"
    made.write_text("Node: a\nRoles: [registry, ca]\nPorts:\n  Api: 1\n  Admin: 1\n  Peer: 1\n")
    return made


def test_each_source_is_named(path: Path) -> None:
    found = {one.name: one for one in rows(path, {"MESHD_PORTS_ADMIN": "2"}, ["Ports.Peer=3"])}
    assert {name: (found[name].value, found[name].origin) for name in ("Node", "Ports.Api", "Ports.Inbound")} == {
        "Node": ("a", f"{path}:1"),
        "Ports.Api": (1, f"{path}:4"),
        "Ports.Inbound": (15443, "default"),
    }
    assert (found["Ports.Admin"].value, found["Ports.Admin"].origin) == (2, "environment MESHD_PORTS_ADMIN")
    assert (found["Ports.Peer"].value, found["Ports.Peer"].origin) == (3, "flag --set Ports.Peer")
    assert found["Roles"].origin == f"{path}:2"


def test_a_flag_hides_the_file_that_it_overrides() -> None:
    assert origin("Node", {"$.Node": "--set Node"}) == "flag --set Node"
    assert origin("Node", {}) == "default"


def test_every_setting_is_there_once_and_a_long_value_widens_nothing(path: Path) -> None:
    found = rows(path, {}, ["Services=[{Name: " + "x" * 100 + ", Port: 80}]"])
    lines = render(found, origins=True, output="table").splitlines()
    assert len(lines) == len(found) == len({one.name for one in found})
    assert all(len(line) < 130 + len(str(path)) for line in lines if not line.startswith("Services"))
    assert lines[-1].split()[0] == found[-1].name


def test_json_with_and_without_origins(path: Path) -> None:
    found = rows(path, {}, [])
    assert json.loads(render(found, origins=False, output="json"))["Ports.Api"] == 1
    tree = json.loads(render(found, origins=True, output="json"))
    assert tree["Ports.Api"] == {"value": 1, "origin": f"{path}:4"}
    assert "default" not in render(found, origins=False, output="table")


def test_a_bad_configuration_is_refused_here_too(path: Path) -> None:
    with pytest.raises(ConfigError):
        rows(path, {"MESHD_PORTS_API": "0"}, [])
