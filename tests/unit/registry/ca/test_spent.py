"""Tokens used once, remembered until they end."""

from pathlib import Path

import pytest

from registry.ca import spent
from registry.errors import Conflict, Unavailable

ID, OTHER = "a" * 32, "b" * 32


def test_once_until_it_ends(tmp_path: Path) -> None:
    folder = tmp_path / "ca" / "used"
    spent.use(folder, ID, expires=100.0, now=1.0)
    with pytest.raises(Conflict, match="used before"):
        spent.use(folder, ID, expires=100.0, now=99.0)
    spent.use(folder, OTHER, expires=300.0, now=200.0)
    assert [path.name for path in folder.iterdir()] == [OTHER]


def test_a_disk_that_does_not_take_it(tmp_path: Path) -> None:
    (tmp_path / "used").write_text("in the way")
    with pytest.raises(Unavailable):
        spent.use(tmp_path / "used", ID, 100.0, 1.0)
