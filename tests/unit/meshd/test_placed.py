"""YAML with places: the line of every path, duplicates refused."""

from pathlib import Path

import pytest

from meshd.placed import ConfigError, Fault, place_of, read


def test_every_path_has_its_line(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("A: 1\nB:\n  C:\n  - D: 2\n")
    places: dict[str, str] = {}
    assert read(path, places) == {"A": 1, "B": {"C": [{"D": 2}]}}
    assert {at: place.rsplit(":", 1)[1] for at, place in places.items()} == {
        "$": "1",
        "$.A": "1",
        "$.B": "2",
        "$.B.C": "3",
        "$.B.C[0]": "4",
        "$.B.C[0].D": "4",
    }


def test_an_unknown_path_is_placed_at_its_nearest_parent() -> None:
    assert place_of({"$.B": "f:2"}, "$.B.C[0].D") == "f:2"
    assert place_of({}, "$.B") == "configuration"


def test_empty_file_is_an_empty_mapping(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("# nothing\n")
    assert read(path, {}) == {}


def test_duplicates_inside_a_section_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "f.yaml"
    path.write_text("A:\n  B: 1\n  B: 2\n")
    with pytest.raises(ConfigError, match=r"f\.yaml:3: A\.B is given twice"):
        read(path, {})


def test_a_fault_reads_as_one_line() -> None:
    assert str(Fault("f:1", "wrong", "do this")) == "f:1: wrong (do this)"
