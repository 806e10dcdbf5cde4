"""Each rule of `make lint` and `make types` is seen to catch what it is for, in a copy of the tree."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.repo.planted import HOUSE, IMPORTS, RUFF, RUST, TYPES, Plant
from tests.repo.rules import RULES
from tests.tools import tool

BIN = Path(sys.executable).parent
Lint = Callable[..., str]


@pytest.fixture(scope="session")
def planted(copied: Path) -> Path:
    for plant in (*RUFF, *IMPORTS, *TYPES, *HOUSE):
        path = copied / plant.path
        assert path.exists() == plant.append, f"{plant.path}: a finding in a file that had it before proves nothing"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text((path.read_text() if plant.append else "") + plant.text)
        if path.suffix == ".py" and path.parent.name == "common":
            (path.parent / "__init__.py").touch()
    return copied


@pytest.fixture(scope="session")
def lint(planted: Path, clean_env: dict[str, str]) -> Lint:
    """Runs one linter in the copy, once, and returns all that it printed; it must have failed."""
    printed: dict[tuple[str, ...], str] = {}

    def run(*command: str) -> str:
        if command not in printed:
            done = subprocess.run(command, cwd=planted, capture_output=True, text=True, env=clean_env, check=False)
            assert done.returncode == 1, done.stdout + done.stderr
            printed[command] = done.stdout + done.stderr
        return printed[command]

    return run


def by_path(plant: Plant) -> str:
    return f"{plant.rule}-{plant.path}"


@pytest.mark.parametrize("plant", RUFF, ids=by_path)
def test_ruff(plant: Plant, lint: Lint) -> None:
    lines = lint(str(BIN / "ruff"), "check", "--output-format", "concise", "--no-cache", ".").splitlines()
    assert [line for line in lines if line.startswith(f"{plant.path}:") and f" {plant.rule} " in line]


@pytest.mark.parametrize("plant", IMPORTS, ids=by_path)
def test_import_contracts(plant: Plant, lint: Lint) -> None:
    printed = lint(str(BIN / "lint-imports"), "--no-logo", "--no-cache")
    module = plant.path.removesuffix(".py").replace("/", ".")
    broken = printed.partition("Broken contracts")[2]
    assert plant.rule in broken
    assert module in broken.partition(f"{plant.rule}\n")[2]


@pytest.mark.parametrize("plant", TYPES, ids=by_path)
def test_types(plant: Plant, lint: Lint) -> None:
    lines = lint(str(BIN / "mypy"), "--cache-dir", "/dev/null", *[each.path for each in TYPES]).splitlines()
    assert [line for line in lines if line.startswith(f"{plant.path}:") and f"[{plant.rule}]" in line]


@pytest.mark.parametrize("plant", HOUSE, ids=by_path)
def test_house_rules(plant: Plant, lint: Lint) -> None:
    lines = lint(sys.executable, "-m", "tests.repo").splitlines()
    assert [line for line in lines if line.startswith(f"{plant.rule}: {plant.path}:")]


def test_every_house_rule_is_planted() -> None:
    assert {plant.rule for plant in HOUSE} == set(RULES)


@pytest.fixture(scope="session")
def clippy(copied: Path, clean_env: dict[str, str]) -> str:
    """Clippy over a crate with every Rust plant in it; the dependencies' builds are the real tree's."""
    root = copied / "meshd/proxy/src/lib.rs"
    text = root.read_text()
    root.write_text(text + "".join(plant.text for plant in RUST))
    makefile = (copied / "Makefile").read_text()
    flags = makefile.partition("cargo clippy $(CARGO_FLAGS) ")[2].partition("\n")[0].split()
    command = [str(tool("cargo")), "clippy", "--locked", "--manifest-path", "meshd/proxy/Cargo.toml", *flags]
    target = Path(__file__).resolve().parents[2] / "target"
    env = {**clean_env, "CARGO_TARGET_DIR": str(target), "CARGO_TERM_COLOR": "never"}
    try:
        done = subprocess.run(command, cwd=copied, capture_output=True, text=True, env=env, check=False)
    finally:
        root.write_text(text)
    assert done.returncode != 0
    return done.stderr


@pytest.mark.timeout(600)  # the crate's dependencies may have to be checked first
@pytest.mark.parametrize("plant", RUST, ids=by_path)
def test_clippy(plant: Plant, clippy: str) -> None:
    function, line = plant.text.partition("pub fn ")[2].partition("(")[0], plant.text.splitlines()[1].strip()
    reports = [report for report in clippy.replace("_", "-").split("\n\n") if plant.rule in report]
    assert [report for report in reports if function.replace("_", "-") in report or line in report]
