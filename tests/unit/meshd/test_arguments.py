"""The command line."""

from pathlib import Path

import pytest

from meshd.arguments import parser


def test_run_takes_a_file_and_settings() -> None:
    given = parser().parse_args(["run", "--config", "x.yaml", "--set", "A=1", "--set", "B=2"])
    assert (given.command, given.config, given.set) == ("run", Path("x.yaml"), ["A=1", "B=2"])


def test_dev_has_no_file() -> None:
    given = parser().parse_args(["dev"])
    assert (given.config, given.set) == (None, [])
    with pytest.raises(SystemExit):
        parser().parse_args(["dev", "--config", "x"])


def test_config_show_says_what_is_to_be_shown() -> None:
    given = parser().parse_args(["config", "show", "--origin", "-o", "json", "--config", "x.yaml"])
    assert (given.command, given.origin, given.output, given.config) == ("config", True, "json", Path("x.yaml"))
    with pytest.raises(SystemExit):
        parser().parse_args(["config"])
