"""Reading a JSON body field by field: what is wrong, where, and what to write instead.

Consul reads `CamelCase`, `snake_case` and any case alike; so do we. What it would ignore or guess, we refuse with the
nearest known name: a typo in a registration is a service without its check.
"""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import msgspec

from registry import durations

MAX_DURATION = 366 * 86400.0  # seconds; more is a unit mix-up

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


@dataclass(frozen=True)
class Invalid:
    """Why a body is refused: a sentence, the path of the field (`Checks[1].Interval`), what to do."""

    error: str
    field: str = ""
    hint: str = ""


class Refused(Exception):
    """Leaves the reading of one body; the door that started it turns it into `Invalid`."""

    def __init__(self, error: str, field: str = "", hint: str = "") -> None:
        super().__init__(error)
        self.invalid = Invalid(error, field, hint)


def body(data: bytes) -> Json:
    """The decoded JSON. Raises Refused with the place of the mistake."""
    try:
        return msgspec.json.decode(data)  # type: ignore[no-any-return]  # JSON is what it decodes to
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Refused(f"the body is not JSON: {error}", hint='send one JSON object, like {"Name": "web"}') from error


def fold(name: str) -> str:
    return name.replace("_", "").replace("-", "").lower()


def take(value: Json, path: str, known: Sequence[str]) -> dict[str, Json]:
    """The object's fields under their canonical names; nulls left out. Refuses unknown names and the same one twice."""
    if not isinstance(value, dict):
        raise Refused(f"{path or 'the body'} must be an object, not {kind(value)}", path)
    canonical = {fold(name): name for name in known}
    found: dict[str, Json] = {}
    for name, item in value.items():
        field = canonical.get(fold(name))
        if field is None:
            raise Refused(f"unknown field {name!r}", join(path, name), nearest(name, known))
        if field in found:
            raise Refused(f"{field} is given twice", join(path, name), f"keep one spelling: {field}")
        if item is not None:
            found[field] = item
    return found


def nearest(name: str, known: Sequence[str]) -> str:
    """A hint with the known name that looks most like `name`, else the list of them."""
    close = difflib.get_close_matches(fold(name[:64]), [fold(k) for k in known], n=1, cutoff=0.6)
    if close:
        return f"did you mean {next(k for k in known if fold(k) == close[0])}?"
    return f"known here: {', '.join(sorted(known))}"


def join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name


def string(value: Json, path: str) -> str:
    if not isinstance(value, str):
        raise Refused(f"{path} must be a string, not {kind(value)}", path)
    if len(value) > 4096 or not value.isprintable():
        raise Refused(f"{path} has control characters or is longer than 4096", path)
    return value


def integer(value: Json, path: str, low: int, high: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        hint = f"write {value} without quotes" if isinstance(value, str) and value.isdecimal() else ""
        raise Refused(f"{path} must be a whole number, not {kind(value)}", path, hint)
    if not low <= value <= high:
        raise Refused(f"{path} is {value}, out of range", path, f"{low} to {high}")
    return value


def boolean(value: Json, path: str) -> bool:
    if not isinstance(value, bool):
        raise Refused(f"{path} must be true or false, not {kind(value)}", path)
    return value


def duration(value: Json, path: str) -> float:
    """Seconds from `"5s"`, or from a bare number of nanoseconds, as Go's clients send it."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        seconds: float | None = value * durations.NANOSECOND
    else:
        seconds = durations.parse(string(value, path))
    if seconds is None or not 0 <= seconds <= MAX_DURATION:
        raise Refused(f"{path} is no duration: {value!r}", path, 'like "5s", "1m30s" or "500ms"')
    return seconds


def listed(value: Json, path: str) -> list[Json]:
    if not isinstance(value, list):
        raise Refused(f"{path} must be a list, not {kind(value)}", path)
    return value


def strings(value: Json, path: str) -> tuple[str, ...]:
    return tuple(string(item, f"{path}[{i}]") for i, item in enumerate(listed(value, path)))


def string_map(value: Json, path: str) -> dict[str, str]:
    if not isinstance(value, dict):
        raise Refused(f"{path} must be an object of strings, not {kind(value)}", path)
    return {string(key, path): string(item, join(path, key)) for key, item in value.items()}


def absent(found: Mapping[str, Json], path: str, names: Sequence[str], hint: str) -> None:
    """Refuse what is known to Consul and not carried here, unless it is at its empty value."""
    for name in names:
        if found.get(name) not in (None, "", False, 0, [], {}):
            raise Refused(f"{name} is not supported yet", join(path, name), hint)


def kind(value: Json) -> str:
    names: tuple[tuple[type, str], ...] = (
        (bool, "a boolean"),
        (str, "a string"),
        (int, "a number"),
        (float, "a number"),
        (list, "a list"),
        (dict, "an object"),
    )
    return next((name for known, name in names if isinstance(value, known)), "null")
