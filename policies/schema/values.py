"""Single values: what may be written for a duration, a percentage, a name, and what it becomes.

Each function takes the scalar as written and returns the value, or raises `Refused` with what is expected.
"""

import re
from collections.abc import Callable
from datetime import datetime
from fractions import Fraction
from typing import Final

from policies.problem import did_you_mean, shown
from policies.schema.shape import Refused
from policies.schema.tree import Scalar
from registry import keys

DAY_MS = 86_400_000
_UNIT_MS: Final = {
    "ns": Fraction(1, 1_000_000),
    "us": Fraction(1, 1_000),
    "µs": Fraction(1, 1_000),
    "ms": Fraction(1),
    "s": Fraction(1_000),
    "m": Fraction(60_000),
    "h": Fraction(3_600_000),
}
_SIZE: Final = {
    "B": 1,
    "KB": 10**3,
    "MB": 10**6,
    "GB": 10**9,
    "KiB": 1 << 10,
    "MiB": 1 << 20,
    "GiB": 1 << 30,
}
_PART = re.compile(r"([0-9]{1,12}(?:\.[0-9]{1,9})?)(ns|us|µs|ms|s|m|h)")
_DURATION = re.compile(r"-?(?:[0-9]{1,12}(?:\.[0-9]{1,9})?(?:ns|us|µs|ms|s|m|h))+\Z")
_BYTES = re.compile(r"([0-9]{1,15})(B|[KMG]i?B)\Z")
_PERCENT = re.compile(r"([0-9]{1,3})(?:\.([0-9]{1,9}))?%?\Z")
_WHOLE = re.compile(r"-?[0-9]{1,15}\Z")
_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,128}\Z")  # RFC 9110 section 5.6.2
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)\Z", re.ASCII)
_NANOSECOND_INT = 1_000_000  # one millisecond


def string(value: Scalar) -> str:
    """Any text without control characters; numbers and true/false of YAML are taken as they are written."""
    if len(value.text) > 4096:
        raise Refused("is longer than 4096 characters")
    if not value.text.isprintable():
        raise Refused("has control characters")
    return value.text


def boolean(value: Scalar) -> bool:
    if not value.quoted and value.text.lower() in ("true", "false"):
        return value.text.lower() == "true"
    raise Refused(f"must be true or false, is {shown(value.text)}")


def whole(low: int, high: int) -> Callable[[Scalar], int]:
    def read(value: Scalar) -> int:
        number = int(value.text) if not value.quoted and _WHOLE.match(value.text) else None
        if number is None or not low <= number <= high:
            raise Refused(f"must be a whole number from {low} to {high}, is {shown(value.text)}")
        return number

    return read


def one_of(*known: str, later: tuple[str, ...] = ()) -> Callable[[Scalar], str]:
    """One of the words; those in `later` are known and refused as not supported yet."""

    def read(value: Scalar) -> str:
        if value.text in known:
            return value.text
        if value.text in later:
            raise Refused(f"{value.text} is not supported yet", f"supported: {', '.join(known)}")
        hint = did_you_mean(value.text, (*known, *later))
        raise Refused(f"{shown(value.text)} is no such value, use {' or '.join(known)}", hint)

    return read


def duration(value: Scalar, *, low: int = 1, high: int = DAY_MS) -> int:
    """`"1.5s"`, `"250ms"`, `"1m30s"` (Go's spelling) in milliseconds."""
    ms = _milliseconds(value)
    if not low <= ms <= high:
        raise Refused(f"{shown(value.text)} is out of range", f"from {low}ms to {high}ms")
    return ms


def timeout(value: Scalar) -> int | None:
    """Consul's request timeouts: 0 means the default (None), a negative one "no limit" (0)."""
    ms = _milliseconds(value)
    if ms > DAY_MS:
        raise Refused(f"{shown(value.text)} is out of range", "at most 24h; a negative one is no limit")
    return None if ms == 0 else max(ms, 0)


def milliseconds(value: Scalar) -> int:
    """Integer fields `...Ms`."""
    return whole(1, DAY_MS)(value)


def nanoseconds(value: Scalar) -> int:
    """A duration that `consul config read` prints as an integer of nanoseconds (PassiveHealthCheck)."""
    if not value.quoted and _WHOLE.match(value.text) and int(value.text) >= _NANOSECOND_INT:
        return duration(Scalar(value.place, f"{value.text}ns", True))
    return duration(value)


def _milliseconds(value: Scalar) -> int:
    text = value.text
    if text == "0":
        return 0
    if len(text) > 64 or _DURATION.match(text) is None:
        hint = f'"{text}s" or "{text}ms"' if _WHOLE.match(text) else 'for example "1.5s" or "250ms"'
        raise Refused(f"{shown(text)} is no duration", hint)
    total = sum((Fraction(number) * _UNIT_MS[unit] for number, unit in _PART.findall(text)), Fraction(0))
    if total.denominator != 1:
        raise Refused(f"{shown(text)} is no whole number of milliseconds")
    return int(-total if text.startswith("-") else total)


def percent(value: Scalar) -> int:
    """0-100 in steps of 0.01, in hundredths of a percent (0-10000)."""
    found = _PERCENT.match(value.text)
    if found is None:
        raise Refused(f"{shown(value.text)} is no percentage", "a number from 0 to 100, for example 12.5")
    decimals = (found[2] or "").rstrip("0")
    if len(decimals) > 2:
        raise Refused(f"{shown(value.text)} is finer than steps of 0.01")
    number = int(found[1]) * 100 + int((decimals + "00")[:2])
    if number > 10_000:
        raise Refused(f"{shown(value.text)} is more than 100")
    return number


def size(value: Scalar) -> int:
    """`"512KiB"`, `"64B"` or a plain number, in bytes."""
    if not value.quoted and _WHOLE.match(value.text) and not value.text.startswith("-"):
        return int(value.text)
    found = _BYTES.match(value.text)
    if found is None:
        raise Refused(f"{shown(value.text)} is no size", 'for example "512KiB"')
    return int(found[1]) * _SIZE[found[2]]


def instant(value: Scalar) -> int:
    """RFC 3339 with its offset, in milliseconds of Unix time."""
    if _TIME.match(value.text) is None:
        raise Refused(f"{shown(value.text)} is no time of RFC 3339", "for example 2026-12-01T18:00:00Z")
    whole_second, _, rest = value.text.upper().partition(".")
    zone = rest.lstrip("0123456789") or whole_second[19:]
    millis = int((rest[: len(rest) - len(zone)] + "000")[:3]) if rest else 0
    try:
        moment = datetime.fromisoformat(whole_second[:19] + zone.replace("Z", "+00:00"))
        return int(moment.timestamp()) * 1000 + millis
    except (ValueError, OverflowError):
        raise Refused(f"{shown(value.text)} is no time that exists") from None


def service_name(value: Scalar) -> str:
    if not keys.valid_name(value.text):
        raise Refused(f"{shown(value.text)} is no service name", "1 to 128 of [A-Za-z0-9._-]")
    return value.text


def registry_name(value: Scalar) -> str:
    """As hosts' configurations name it; which ones a host has is known there alone."""
    if not keys.valid_name(value.text):
        raise Refused(f"{shown(value.text)} is no name of a registry", "1 to 128 of [A-Za-z0-9._-]")
    return value.text


def service_or_any(value: Scalar) -> str:
    """A service's name or `*`."""
    return value.text if value.text == "*" else service_name(value)


def subset_name(value: Scalar) -> str:
    if not keys.valid_name(value.text):
        raise Refused(f"{shown(value.text)} is no subset name", "1 to 128 of [A-Za-z0-9._-]")
    return value.text


def optional(convert: Callable[[Scalar], str]) -> Callable[[Scalar], str | None]:
    """`""` is as if the field were left out, as `consul config read` prints it."""

    def read(value: Scalar) -> str | None:
        return convert(value) if value.text else None

    return read


def token(value: Scalar) -> str:
    """A header's or query parameter's name as HTTP allows it."""
    if _TOKEN.match(value.text) is None:
        raise Refused(f"{shown(value.text)} is no name that HTTP allows")
    return value.text


def header_name(value: Scalar) -> str:
    """Lower case, as everything that compares header names does."""
    return token(value).lower()


def method(value: Scalar) -> str:
    return token(value).upper()
