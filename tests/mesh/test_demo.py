"""The demo tells the truth: each feature broken on purpose makes it exit 1, and the failed line is that feature's."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.demo.steps import STEPS
from tests.mesh.cluster import ROOT, random_net

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
