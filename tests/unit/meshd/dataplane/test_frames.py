"""Frames: the golden files read back and forth, digests over the bytes sent, bounds."""

import asyncio
import hashlib
import json
from pathlib import Path

import msgspec
import pytest

from meshd.dataplane import frames
from policies.compiled import Endpoint, FromProxy, Scrape, ToProxy, Update

GOLDEN = Path(__file__).parents[3] / "golden"


def test_every_golden_frame_of_the_proxy_is_read() -> None:
    for frame in json.loads((GOLDEN / "frames_from_proxy.json").read_text()):
        decoded = frames.decode(json.dumps(frame).encode())
        assert msgspec.to_builtins(decoded, str_keys=True)["type"] == frame["type"]


def test_an_update_around_encoded_resources_is_the_golden_update() -> None:
    golden = json.loads((GOLDEN / "update.json").read_text())
    update = msgspec.convert(golden, Update)
    encoded = [frames.encode_resource(resource) for resource in update.put]
    assert json.loads(frames.encode_update(7, encoded, (), full=True)) == golden


def test_every_golden_frame_to_the_proxy_is_written_as_it_stands() -> None:
    for frame in json.loads((GOLDEN / "frames_to_proxy.json").read_text()):
        written = json.loads(frames.encode(msgspec.convert(frame, ToProxy)))
        assert frame.items() >= written.items()


def test_digest_is_over_the_bytes_in_the_update() -> None:
    one = frames.encode_resource(Endpoint(name="api/b/1", id="1", service="api", node="b", address="127.0.0.1:1"))
    assert one.id == "endpoint/api/b/1"
    assert one.digest == hashlib.sha256(one.text).hexdigest()[:32]
    assert one.text in frames.encode_update(1, [one], (), full=False)


@pytest.mark.parametrize("text", [b"", b"{}", b'{"type":"hullo"}', b'{"type":"applied","update":1,"x":2}'])
def test_what_is_no_frame_breaks_the_contract(text: bytes) -> None:
    with pytest.raises(frames.Broken, match="frame from the proxy"):
        frames.decode(text)


async def test_read_refuses_what_is_too_long_and_ends_quietly() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(frames.pack(frames.encode(Scrape(id=3))) + (frames.LIMIT + 1).to_bytes(4, "big"))
    assert await frames.read(reader) == b'{"type":"scrape","id":3}'
    with pytest.raises(frames.Broken, match="limit"):
        await frames.read(reader)
    half = asyncio.StreamReader()
    half.feed_data(b"\0\0\0\7abc")
    half.feed_eof()
    assert await frames.read(half) is None


def test_pack_refuses_what_is_too_long() -> None:
    with pytest.raises(frames.Broken, match="limit"):
        frames.pack(bytes(frames.LIMIT + 1))


def test_types_of_the_union_are_tagged() -> None:
    assert {kind.__struct_config__.tag for kind in FromProxy.__args__} >= {"hello", "applied", "rejected"}
