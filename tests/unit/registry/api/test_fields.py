"""Fields of JSON bodies: what is wrong, where and what to write instead."""

from collections.abc import Callable

import pytest

from registry.api import fields
from registry.api.fields import Json, Refused


def refusal(call: Callable[[], object]) -> fields.Invalid:
    with pytest.raises(Refused) as caught:
        call()
    return caught.value.invalid


def test_names_are_read_in_any_spelling() -> None:
    known = ("EnableTagOverride", "Name")
    for spelling in ("EnableTagOverride", "enable_tag_override", "enabletagoverride", "enable-tag-override"):
        assert fields.take({spelling: True}, "", known) == {"EnableTagOverride": True}
    assert fields.take({"Name": None}, "", known) == {}


def test_an_unknown_name_is_refused_with_the_nearest_one() -> None:
    found = refusal(lambda: fields.take({"Prt": 1}, "Check", ("Port", "Name")))
    assert (found.field, found.hint) == ("Check.Prt", "did you mean Port?")
    assert refusal(lambda: fields.take({"zzzzz": 1}, "", ("Port", "Name"))).hint == "known here: Name, Port"


def test_a_field_given_in_two_spellings_is_refused() -> None:
    assert "twice" in refusal(lambda: fields.take({"port": 1, "Port": 2}, "", ("Port",))).error


@pytest.mark.parametrize(
    ("read", "value", "hint"),
    [
        (lambda v: fields.integer(v, "Port", 1, 65535), "80", "write 80 without quotes"),
        (lambda v: fields.integer(v, "Port", 1, 65535), True, ""),
        (lambda v: fields.integer(v, "Port", 1, 65535), 70000, "1 to 65535"),
        (lambda v: fields.integer(v, "Port", 1, 65535), 1.5, ""),
        (lambda v: fields.string(v, "Name"), 5, ""),
        (lambda v: fields.string(v, "Name"), "a\r\nb", ""),
        (lambda v: fields.string(v, "Name"), "a" * 4097, ""),
        (lambda v: fields.boolean(v, "Flag"), "true", ""),
        (lambda v: fields.duration(v, "Wait"), "5x", 'like "5s", "1m30s" or "500ms"'),
        (lambda v: fields.duration(v, "Wait"), -1, 'like "5s", "1m30s" or "500ms"'),
        (lambda v: fields.strings(v, "Tags"), "v2", ""),
        (lambda v: fields.strings(v, "Tags"), ["a", 1], ""),
        (lambda v: fields.string_map(v, "Meta"), [], ""),
        (lambda v: fields.string_map(v, "Meta"), {"a": 1}, ""),
        (lambda v: fields.take(v, "", ("A",)), [], ""),
    ],
)
def test_what_does_not_fit_is_refused(read: Callable[[Json], object], value: Json, hint: str) -> None:
    assert refusal(lambda: read(value)).hint == hint


def test_what_fits_is_read() -> None:
    assert fields.integer(80, "Port", 1, 65535) == 80
    assert fields.boolean(False, "Flag") is False
    assert fields.duration(5_000_000_000, "Wait") == 5.0
    assert fields.duration("1m", "Wait") == 60.0
    assert fields.strings(["a"], "Tags") == ("a",)
    assert fields.string_map({"a": "b"}, "Meta") == {"a": "b"}


def test_a_body_that_is_no_json_says_so() -> None:
    assert "not JSON" in refusal(lambda: fields.body(b"{")).error
    assert "not JSON" in refusal(lambda: fields.body(b"\xff")).error


def test_what_is_known_but_not_carried_is_refused_unless_empty() -> None:
    fields.absent({"GRPC": "", "Shell": None}, "", ("GRPC", "Shell"), "use HTTP")
    assert refusal(lambda: fields.absent({"GRPC": "x"}, "Check", ("GRPC",), "use HTTP")).field == "Check.GRPC"


@pytest.mark.parametrize(
    ("value", "name"), [(None, "null"), (True, "a boolean"), (1, "a number"), ("", "a string"), ([], "a list")]
)
def test_kinds_have_names(value: Json, name: str) -> None:
    assert fields.kind(value) == name
