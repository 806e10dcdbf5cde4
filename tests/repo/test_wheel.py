"""One wheel holds the three packages, both commands and the proxy (`make wheel` builds it first)."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
pytestmark = [pytest.mark.wheel, pytest.mark.timeout(300)]  # it is installed into an environment of its own


@pytest.fixture(scope="module")
def wheel() -> Path:
    if not (ROOT / "dist").exists():
        pytest.skip("no wheel is built: `make wheel`")
    (built,) = (ROOT / "dist").glob("meshd-*.whl")
    return built


def test_it_holds_three_packages_and_the_binary(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
        points = next(name for name in names if name.endswith("entry_points.txt"))
        commands = archive.read(points).decode()
    packages = {name.split("/")[0] for name in names if name.endswith("/__init__.py")}
    assert packages == {"meshd", "registry", "policies"}
    assert [name for name in names if name.endswith(".data/scripts/meshd-proxy")]
    assert "meshd = meshd.main:main" in commands
    assert "meshctl = meshd.cli.main:main" in commands


def test_it_ships_type_markers_and_no_rust_sources(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = archive.namelist()
    assert {f"{package}/py.typed" for package in ("meshd", "registry", "policies")} <= set(names)
    assert [name for name in names if name.endswith((".rs", "Cargo.toml"))] == []


def test_its_commands_run_from_an_environment_of_their_own(wheel: Path, tmp_path: Path) -> None:
    """The dependencies are this environment's, read-only; the package itself comes from the wheel alone."""
    target = tmp_path / "unpacked"
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(target)
    (proxy,) = target.glob("*.data/scripts/meshd-proxy")
    proxy.chmod(0o755)
    assert subprocess.run([proxy, "--version"], capture_output=True, check=False, timeout=20).returncode in (0, 2)
    code = "import sys; sys.path.insert(0, sys.argv.pop(1)); import meshd.cli.main as m; print(m.__file__); m.main()"
    command = [sys.executable, "-c", code, str(target), "--help"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, check=False, timeout=20)
    assert done.stdout.startswith(str(target))
    assert done.returncode == 0, done.stderr
