from meshd.cli.main import COMMANDS
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_help_names_every_command_and_gives_examples(meshctl: Run) -> None:
    text = meshctl("--help").stdout
    assert "Examples:" in text
    assert all(f"\n  {name} " in text for name in COMMANDS)


def test_every_command_has_help(meshctl: Run) -> None:
    for name in COMMANDS:
        done = meshctl(name, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith("Usage: meshctl")


def test_unreachable_is_75_with_a_next_step(meshctl: Run) -> None:
    done = meshctl("status", target="/nonexistent/api.sock")
    assert done.returncode == 75
    assert "--api or MESHD_API" in done.stderr
    assert done.stdout == ""


def test_a_refusal_is_1_and_shows_field_and_hint(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/services", {"error": "not for you", "field": "token", "hint": "use api.sock"}, 403)
    done = meshctl("services")
    assert done.returncode == 1
    assert "refused: not for you (field token)" in done.stderr
    assert "hint: use api.sock" in done.stderr


def test_no_registry_behind_meshd_is_75(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/services", {"error": "the registry does not answer"}, 503)
    assert meshctl("services").returncode == 75


def test_usage_is_2(meshctl: Run) -> None:
    assert meshctl("get", "service-intentions").returncode == 2
    assert meshctl("nonsense").returncode == 2
