"""The contract with the proxy: the golden files that its own tests read too, field by field."""

from pathlib import Path

import msgspec
import pytest

from policies.compiled import ExplainInput, Frame, FromProxy, ToProxy, Update

GOLDEN = Path(__file__).parents[2] / "golden"


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("update", Update),
        ("explain_input", ExplainInput),
        ("frames_to_proxy", tuple[ToProxy, ...]),
        ("frames_from_proxy", tuple[FromProxy, ...]),
    ],
)
def test_golden_files_are_read_and_written_back(name: str, shape: type) -> None:
    text = (GOLDEN / f"{name}.json").read_bytes()
    value: object = msgspec.json.decode(text, type=shape)
    assert msgspec.json.decode(msgspec.json.encode(value)) == msgspec.json.decode(text)


def test_an_unknown_field_is_refused_with_its_path() -> None:
    text = b'{"type":"update","update":1,"put":[{"kind":"service","name":"a","protocl":"tcp"}]}'
    with pytest.raises(msgspec.ValidationError, match=r"unknown field `protocl` - at `\$.put\[0\]`"):
        msgspec.json.decode(text, type=Update)


def test_frames_are_told_apart_by_type() -> None:
    assert issubclass(Update, Frame)
    assert msgspec.json.decode(msgspec.json.encode(Update(update=1)))["type"] == "update"
