"""`meshd config show --origin`: every effective setting and where it comes from."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from meshd.config import read_host, show
from meshd.reload import flat

LONG = 60  # characters; a longer value (registrations) does not widen the column for all


class Row(msgspec.Struct, frozen=True):
    """`origin`: `default`, `FILE:LINE`, `environment NAME` or `flag --set NAME`."""

    name: str
    value: object
    origin: str


def rows(path: Path | None, environ: Mapping[str, str], sets: Sequence[str]) -> tuple[Row, ...]:
    """All settings in the order of their names. Raises ConfigError."""
    host, places = read_host(path, environ, sets)
    found = flat(show(host))
    return tuple(Row(name, found[name], origin(name, places)) for name in sorted(found))


def origin(name: str, places: Mapping[str, str]) -> str:
    """In words where a setting was given; what nobody gave is a default."""
    place = places.get(f"$.{name}")
    if place is None:
        return "default"
    if place.startswith("--set "):
        return f"flag {place}"
    return f"environment {place}" if place.startswith("MESHD_") else place


def render(found: Iterable[Row], *, origins: bool, output: str) -> str:
    """As text: JSON, or a line for each setting."""
    listed = list(found)
    if output == "json":
        tree = {one.name: {"value": one.value, "origin": one.origin} if origins else one.value for one in listed}
        return json.dumps(tree, indent=2)
    width = max(len(one.name) for one in listed)
    texts = [json.dumps(one.value) for one in listed]
    column = max(len(text) for text in texts if len(text) <= LONG)
    columns = (
        (one.name.ljust(width), text.ljust(column), one.origin) if origins else (one.name.ljust(width), text)
        for one, text in zip(listed, texts, strict=True)
    )
    return "\n".join("  ".join(parts).rstrip() for parts in columns)
