"""The README promises what is there: commands, targets, files."""

import os
import re
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = ("README.md", "ARCHITECTURE.md", "SECURITY.md", "CHANGELOG.md", "docs/STATE.md")


def quick_start() -> list[str]:
    section = (ROOT / "README.md").read_text().partition("## Quick start")[2].partition("\n## ")[0]
    blocks = re.findall(r"```sh\n(.*?)```", section, re.DOTALL)
    return [line for block in blocks for line in block.splitlines() if line]


def targets() -> frozenset[str]:
    return frozenset(re.findall(r"^([a-z][a-z-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE))


def test_the_quick_start_is_two_commands() -> None:
    assert quick_start() == ["make demo", "make test"]


def test_the_quick_start_shows_an_allowed_and_a_denied_call() -> None:
    section = (ROOT / "README.md").read_text().partition("## Quick start")[2]
    assert re.search(r"allowed: 200", section)
    assert re.search(r"denied: +403", section)


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_make_target_that_is_named_exists(document: str) -> None:
    named = set(re.findall(r"`(?:[A-Z_]+=\S+ )?make ([a-z][a-z-]*)", (ROOT / document).read_text()))
    assert named <= targets()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_link_leads_somewhere(document: str) -> None:
    text = (ROOT / document).read_text()
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert [link for link in links if not ((ROOT / document).parent / link).exists()] == []


def test_the_houses_targets_exist_and_help_lists_them() -> None:
    wanted = {
        "demo",
        "test",
        "fmt",
        "lint",
        "types",
        "mesh",
        "bench",
        "bench-control",
        "fuzz",
        "setup",
        "proxy",
        "clean",
    }
    command = ["make", "--no-print-directory", "help"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    listed = {line.split()[0] for line in done.stdout.splitlines() if line.strip()}
    assert wanted <= listed
    assert listed <= targets()


def test_ci_runs_what_people_run() -> None:
    text = (ROOT / ".ci/run").read_text()
    assert "for target in lint types test" in text
    assert os.access(ROOT / ".ci/run", os.X_OK)
    assert {"lint", "types", "test"} <= targets()


@pytest.mark.quick_start
@pytest.mark.timeout(300)  # a mesh of three hosts starts, is used, killed and restarted
def test_the_quick_starts_demo_passes() -> None:
    demo = next(command for command in quick_start() if "demo" in command)
    # as from a shell: below make, make adds words of its own
    env = {name: value for name, value in os.environ.items() if name not in ("MAKELEVEL", "MAKEFLAGS", "MFLAGS")}
    done = subprocess.run(demo.split(), cwd=ROOT, capture_output=True, text=True, check=False, timeout=280, env=env)
    print(done.stdout[-8000:], done.stderr[-8000:], sep="\n")  # pytest shows it when the test fails
    assert done.returncode == 0
    assert re.fullmatch(r"demo: [1-9][0-9]* passed, 0 failed", done.stdout.strip().splitlines()[-1])
    assert "403" in done.stdout
    assert "200" in done.stdout
