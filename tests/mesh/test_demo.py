"""The demo tells the truth: each feature broken on purpose makes it exit 1, and the failed line is that feature's."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.registry import REGISTRIES
from tests.demo.steps import STEPS
from tests.mesh.cluster import ROOT, random_net
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(120)]

# `authority` cannot be done wrong without failing at once; `table` only repeats what the others counted.
BREAKABLE = [name for name in STEPS if name not in ("authority", "table")]


@pytest.mark.parametrize("feature", BREAKABLE)
def test_a_broken_feature_makes_the_demo_fail(feature: str, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.demo", "--json", "--net", random_net(), "--state", str(tmp_path / "demo")]
    done = subprocess.run(
        [*command, "--only", feature, "--break", feature], capture_output=True, text=True, cwd=ROOT, check=False
    )
    assert done.returncode == 1, done.stderr[-3000:]
    report = json.loads(done.stdout)
    assert report["failed"] >= 1
    assert {check["step"] for check in report["checks"] if not check["held"]} == {feature}


@pytest.mark.mesh_long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("registry", [name for name in REGISTRIES if name != "embedded"])
def test_the_whole_demo_runs_on_other_registries(registry: str, tmp_path: Path) -> None:
    tool(registry)
    command = [sys.executable, "-m", "tests.demo", "--json", "--net", random_net(), "--state", str(tmp_path / "demo")]
    env = {**os.environ, "REGISTRY": registry}
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False, env=env)
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout)["passed"] >= 16
