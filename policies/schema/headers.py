"""Edits of request and response headers (Consul's `HTTPHeaderModifiers`)."""

import re
from dataclasses import dataclass

from policies.problem import shown
from policies.schema import values
from policies.schema.shape import Field, Refused, Shape, list_of, map_of, scalar
from policies.schema.tree import Scalar

# Framing, hop-by-hop and target: changing them here would make two readings of one message (request smuggling).
# `traceparent` is the proxy's own, as is everything that begins with `x-meshd-`.
PROTECTED = frozenset(
    (
        "connection",
        "content-length",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "traceparent",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)
# What Envoy would replace (`%DOWNSTREAM_REMOTE_ADDRESS%`): sending it on literally would be a silent other meaning.
_VARIABLE = re.compile(r"%[A-Z][A-Z0-9_]{0,63}(\([^()]{0,128}\))?%")


@dataclass(frozen=True, kw_only=True)
class HeaderEdits:
    """Names lower case. Applied in the order remove, set, add."""

    add: tuple[tuple[str, str], ...] = ()
    set: tuple[tuple[str, str], ...] = ()
    remove: tuple[str, ...] = ()


def edited_name(value: Scalar) -> str:
    name = values.header_name(value)
    spelled = name.replace("_", "-")  # some servers do not tell these apart
    if spelled in PROTECTED or spelled.startswith("x-meshd-"):
        raise Refused(f"{name} cannot be edited", "it belongs to the connection or to the mesh")
    return name


def edited_value(value: Scalar) -> str:
    text = values.string(value)
    if text != text.strip() or not text.isascii():
        raise Refused(f"{shown(text)} is no header value", "ASCII, without spaces at its ends")
    if _VARIABLE.search(text):
        raise Refused("variables in header values are not supported yet")
    return text


def _edits(
    add: dict[str, str] | None = None, set: dict[str, str] | None = None, remove: tuple[str, ...] = ()
) -> HeaderEdits:
    return HeaderEdits(
        add=tuple(sorted((add or {}).items(), key=lambda pair: pair[0])),
        set=tuple(sorted((set or {}).items(), key=lambda pair: pair[0])),
        remove=tuple(sorted(remove, key=str)),
    )


_VALUES = map_of(edited_name, scalar(edited_value))

HEADERS = Shape(
    _edits,
    (
        Field("Add", "add", _VALUES),
        Field("Set", "set", _VALUES),
        Field("Remove", "remove", list_of(scalar(edited_name))),
    ),
)
