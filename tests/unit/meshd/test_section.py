"""Sections refuse what they do not know, and name their fields as the file does."""

import msgspec
import pytest

from meshd.section import Config, Seconds


class Example(Config, frozen=True, kw_only=True, rename="pascal", forbid_unknown_fields=True):
    long_name: Seconds = Seconds(1)


def test_fields_are_in_pascal_case_and_no_others_are_taken() -> None:
    assert msgspec.convert({}, Example).long_name == 1.0
    assert msgspec.to_builtins(Example(), enc_hook=float) == {"LongName": 1.0}
    with pytest.raises(msgspec.ValidationError, match="long_name"):
        msgspec.convert({"long_name": 2.0}, Example)
