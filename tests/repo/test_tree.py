"""The tree as it stands keeps the house rules, and its history names no machine."""

import re
import subprocess
from pathlib import Path

import pytest

from tests.repo.layout_rules import MACHINE
from tests.repo.rules import RULES
from tests.repo.tree import Source, Tree

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def tree() -> Tree:
    return Tree(ROOT)


@pytest.mark.parametrize("rule", RULES)
def test_no_finding(rule: str, tree: Tree) -> None:
    assert [str(finding) for finding in RULES[rule](tree)] == []


def test_commit_messages_name_no_machine() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git repository: no history to read")
    log = subprocess.run(["git", "log", "--format=%h %B"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert [line for line in log.splitlines() if MACHINE.search(line)] == []


def test_decision_records_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "docs/decisions").glob("*.md"))
    assert names
    assert [name[:3] for name in names] == [f"{number:03d}" for number in range(len(names))]
    assert all(re.fullmatch(r"\d{3}-[a-z0-9-]+\.md", name) for name in names)


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("x = 1  # no" + "qa: F401 - imported for its effect", False),
        ("# imported for its effect on the codec registry\nx = 1  # no" + "qa: F401", False),
        ("x = 1  # no" + "qa", True),
        ("x = '# no" + "qa'", False),
    ],
)
def test_a_reason_may_stand_beside_or_above(code: str, found: bool) -> None:
    class One(Tree):
        sources = (Source("meshd/x.py", code + "\n"),)

    assert bool(list(RULES["reason-missing"](One(ROOT)))) is found


@pytest.mark.parametrize(
    ("code", "found"),
    [
        ("from collections.abc import Mapping\nTABLE: Mapping[str, int] = {'a': 1}\n", False),
        ("NAMES = ['a']\n", False),
        ("NAMES = ['a']\n\n\ndef f() -> None:\n    NAMES.append('b')\n", True),
        ("import itertools\nIDS = itertools.count()\n", True),
        ("import asyncio\nlock = asyncio.Lock()\n", True),
    ],
)
def test_a_constant_table_is_no_state(code: str, found: bool) -> None:
    class One(Tree):
        sources = (Source("registry/x.py", code),)

    assert bool(list(RULES["module-state"](One(ROOT)))) is found
