"""Documents that say what is tested name tests that exist: `mesh/test_chaos.py::test_...`, below tests/."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAMED = re.compile(r"\b((?:[a-z_]+/)+test_\w+\.py)::(test_\w+)")
DOCUMENTS = ("docs/operators/registry-down.md", "tests/mesh/test_failures.py")


def defined(path: str) -> frozenset[str]:
    file = ROOT / "tests" / path
    if not file.exists():
        return frozenset()
    functions = ast.FunctionDef | ast.AsyncFunctionDef
    return frozenset(node.name for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, functions))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_test_that_is_named_exists(document: str) -> None:
    named = NAMED.findall((ROOT / document).read_text())
    assert len(named) > 10
    assert [f"{path}::{name}" for path, name in named if name not in defined(path)] == []


def test_every_line_about_a_down_registry_names_its_test() -> None:
    """A fact without a test is an opinion: each row of the page's tables ends in one."""
    text = (ROOT / "docs/operators/registry-down.md").read_text()
    rows = [line for line in text.splitlines() if line.startswith("|") and not re.match(r"\|[-| ]+\|$", line)]
    facts = [row for row in rows if not row.rstrip(" |").endswith("tested by")]
    assert len(facts) > 20
    assert [row for row in facts if not NAMED.search(row.split("|")[-2])] == []
