"""Single values: what may be written, and what it becomes."""

from collections.abc import Callable

import pytest

from policies.schema import values
from policies.schema.shape import Refused
from policies.schema.tree import Place, Scalar


def word(text: str, quoted: bool = True) -> Scalar:
    return Scalar(Place(1, 1), text, quoted)


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1.5s", 1500),
        ("250ms", 250),
        ("1m30s", 90_000),
        ("2h", 7_200_000),
        ("1500us", None),
        ("2000us", 2),
        ("2000µs", 2),
        ("5000000ns", 5),
        ("0.001s", 1),
        ("0.0001s", None),
        ("0s", None),
        ("0", None),
        ("25h", None),
        ("-1s", None),
        ("1", None),
        ("", None),
        ("s", None),
        ("1 s", None),
        ("1s ", None),
        ("1s\n", None),
        ("1e3s", None),
        ("1d", None),
        ("1.s", None),
        ("9" * 70 + "s", None),
        ("٣s", None),
    ],
)
def test_durations(text: str, ms: int | None) -> None:
    if ms is None:
        with pytest.raises(Refused):
            values.duration(word(text))
    else:
        assert values.duration(word(text)) == ms


def test_a_bare_number_is_shown_its_units() -> None:
    with pytest.raises(Refused) as caught:
        values.duration(word("15", False))
    assert caught.value.hint == '"15s" or "15ms"'


@pytest.mark.parametrize(("text", "ms"), [("2s", 2000), ("0s", None), ("0", None), ("-1s", 0)])
def test_timeouts_as_in_consul(text: str, ms: int | None) -> None:
    assert values.timeout(word(text)) == ms


def test_timeouts_are_bounded() -> None:
    with pytest.raises(Refused):
        values.timeout(word("25h"))


def test_consuls_nanoseconds() -> None:
    assert values.nanoseconds(word("15000000000", False)) == 15_000
    assert values.nanoseconds(word("10s")) == 10_000
    for odd in ("15", "1000001"):
        with pytest.raises(Refused):
            values.nanoseconds(word(odd, False))


@pytest.mark.parametrize(
    ("text", "hundredths"),
    [
        ("0", 0),
        ("100", 10_000),
        ("33.33", 3333),
        ("0.01", 1),
        ("12.5", 1250),
        ("12.50%", 1250),
        ("12.500", 1250),
        ("100.00", 10_000),
        ("100.01", None),
        ("101", None),
        ("0.001", None),
        ("-1", None),
        ("1e1", None),
        (".5", None),
        ("", None),
        ("nan", None),
        ("1000", None),
    ],
)
def test_percentages(text: str, hundredths: int | None) -> None:
    if hundredths is None:
        with pytest.raises(Refused):
            values.percent(word(text))
    else:
        assert values.percent(word(text)) == hundredths


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("512KiB", 524_288),
        ("64B", 64),
        ("1MB", 1_000_000),
        ("2GiB", 2 << 30),
        ("1 KiB", None),
        ("KiB", None),
        ("1k", None),
    ],
)
def test_sizes(text: str, size: int | None) -> None:
    if size is None:
        with pytest.raises(Refused):
            values.size(word(text))
    else:
        assert values.size(word(text)) == size


def test_a_plain_number_is_a_size_in_bytes() -> None:
    assert values.size(word("4096", False)) == 4096
    with pytest.raises(Refused):
        values.size(word("-1", False))


@pytest.mark.parametrize(
    ("text", "ms"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:01.5Z", 1500),
        ("1970-01-01t01:00:00.123456+01:00", 123),
        ("1970-01-01 00:00:00-00:30", 1_800_000),
        ("2026-12-01T18:00:00Z", 1_796_148_000_000),
        ("2026-12-01T18:00:00", None),
        ("2026-13-01T18:00:00Z", None),
        ("2026-02-30T18:00:00Z", None),
        ("2026-12-01", None),
        ("20261201T180000Z", None),
        ("0000-01-01T00:00:00Z", None),
        ("2026-12-01T18:00:00+99:00", None),
        ("tomorrow", None),
    ],
)
def test_times(text: str, ms: int | None) -> None:
    if ms is None:
        with pytest.raises(Refused):
            values.instant(word(text))
    else:
        assert values.instant(word(text)) == ms


def test_booleans_are_no_words() -> None:
    assert values.boolean(word("true", False)) is True
    assert values.boolean(word("False", False)) is False
    for other in (word("yes", False), word("1", False), word("true")):
        with pytest.raises(Refused):
            values.boolean(other)


def test_whole_numbers() -> None:
    assert values.whole(-5, 5)(word("-5", False)) == -5
    for other in (word("6", False), word("3"), word("1.0", False), word("0x1", False), word("9" * 20, False)):
        with pytest.raises(Refused):
            values.whole(-5, 5)(other)


def test_words_from_a_list() -> None:
    read = values.one_of("tcp", "http", later=("grpc",))
    assert read(word("tcp")) == "tcp"
    with pytest.raises(Refused, match="grpc is not supported yet"):
        read(word("grpc"))
    with pytest.raises(Refused) as caught:
        read(word("htpp"))
    assert caught.value.hint == "did you mean http?"


@pytest.mark.parametrize(
    ("read", "good", "bad"),
    [
        (values.string, "a b", "a\x00b"),
        (values.string, "é", "a\nb"),
        (values.string, "", "x" * 5000),
        (values.service_name, "web-1.x_Y", "web/1"),
        (values.service_name, "a", ".."),
        (values.service_name, "a", ""),
        (values.service_or_any, "*", "web*"),
        (values.subset_name, "v1", "v 1"),
        (values.token, "X-a", "x:y"),
        (values.token, "!#$%&'*+.^_`|~", ""),
        (values.header_name, "x-a", "x a"),
        (values.method, "GET", "G ET"),
    ],
)
def test_texts(read: Callable[[Scalar], str], good: str, bad: str) -> None:
    assert read(word(good)) == good
    with pytest.raises(Refused):
        read(word(bad))


def test_headers_are_lower_and_methods_upper_case() -> None:
    assert values.header_name(word("X-User")) == "x-user"
    assert values.method(word("get")) == "GET"


def test_empty_is_left_out_where_optional() -> None:
    assert values.optional(values.service_name)(word("")) is None
    assert values.optional(values.service_name)(word("web")) == "web"
