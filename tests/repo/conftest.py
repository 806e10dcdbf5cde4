"""Copies of the tree to plant violations in."""

import os
import shutil
from pathlib import Path

import pytest

from tests.repo.tree import Tree

ROOT = Path(__file__).resolve().parents[2]


def copy_tree(target: Path) -> Path:
    """What git would commit, in a directory without git."""
    for path in Tree(ROOT).paths:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / path, target / path)
    return target


@pytest.fixture(scope="session")
def copied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy for tests that only add files to it."""
    return copy_tree(tmp_path_factory.mktemp("tree"))


@pytest.fixture(scope="session")
def clean_env() -> dict[str, str]:
    """No bytecode beside the copies, no colours in what is compared."""
    return {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "NO_COLOR": "1", "COLUMNS": "200"}
