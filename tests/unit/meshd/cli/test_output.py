import pytest

from meshd.cli.output import rows


def test_columns_align_and_empty_cells_show_a_dash(capsys: pytest.CaptureFixture[str]) -> None:
    rows(("A", "LONG"), [("xx", ""), ("y", 3)])
    assert capsys.readouterr().out == "A   LONG\nxx  -\ny   3\n"


def test_nothing_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    rows(("A",), [], empty="no documents")
    assert capsys.readouterr().out == "no documents\n"
