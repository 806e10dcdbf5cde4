"""Frames of the control socket: 4 bytes big-endian length, then JSON, at most 16 MiB (`policies.compiled`).

Resources are encoded once: the digest that tells two versions apart is taken over the very bytes that are sent.
"""

import asyncio
import hashlib
from collections.abc import Iterable

import msgspec

from policies.compiled import AnyResource, FromProxy, ToProxy

LIMIT = 16 * 1024 * 1024


class Broken(Exception):
    """The other side does not keep the contract; the connection is useless from here on."""


class Encoded(msgspec.Struct, frozen=True):
    """A resource as sent. `id` is `<kind>/<name>`."""

    id: str
    digest: str
    text: bytes


def name(resource: AnyResource) -> str:
    """A resource's identity."""
    return f"{resource.__struct_config__.tag}/{resource.name}"


def encode_resource(resource: AnyResource) -> Encoded:
    text = msgspec.json.encode(resource)
    return Encoded(name(resource), hashlib.sha256(text).hexdigest()[:32], text)


def encode_update(update: int, put: Iterable[Encoded], delete: Iterable[str], full: bool) -> bytes:
    """An `Update` around resources that are encoded already."""
    head = b'{"type":"update","update":%d,"full":%s,"put":[' % (update, b"true" if full else b"false")
    return head + b",".join(one.text for one in put) + b'],"delete":' + msgspec.json.encode(sorted(delete)) + b"}"


def encode(frame: ToProxy) -> bytes:
    return msgspec.json.encode(frame)


DECODER = msgspec.json.Decoder(FromProxy)


def decode(text: bytes) -> FromProxy:
    try:
        frame: FromProxy = DECODER.decode(text)
    except msgspec.DecodeError as error:
        raise Broken(f"frame from the proxy: {error}") from None
    return frame


async def read(reader: asyncio.StreamReader) -> bytes | None:
    """One frame's JSON; None at the end of the stream."""
    try:
        size = int.from_bytes(await reader.readexactly(4), "big")
        if size > LIMIT:
            raise Broken(f"frame of {size} bytes, the limit is {LIMIT}")
        return await reader.readexactly(size)
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


def pack(text: bytes) -> bytes:
    if len(text) > LIMIT:
        raise Broken(f"frame of {len(text)} bytes, the limit is {LIMIT}")
    return len(text).to_bytes(4, "big") + text
