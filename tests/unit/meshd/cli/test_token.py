import stat
from pathlib import Path

from meshd.admin.shapes import TokenAnswer
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_a_token_file_is_private_and_never_overwritten(meshctl: Run, api: MeshApi, tmp_path: Path) -> None:
    api.answer("POST", "/v1/mesh/tokens", TokenAnswer(token="s3cret", expires="soon", root_hash="ff"))
    out = tmp_path / "join"
    done = meshctl("token", "create", "--node", "b", "--service", "api", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "s3cret\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "s3cret" not in done.stdout
    assert meshctl("token", "create", "--node", "b", "--out", str(out)).returncode == 2


def test_a_token_needs_exactly_one_purpose(meshctl: Run) -> None:
    assert meshctl("token", "create").returncode == 2
    assert meshctl("token", "create", "--node", "b", "--operator", "ada").returncode == 2
