"""One line of `meshctl doctor`, and what all of them together mean. Pure."""

from collections.abc import Iterable
from typing import Literal

import msgspec

Verdict = Literal["ok", "warn", "fail"]

UNREACHABLE = "registry"  # the check whose failure has an exit code of its own


class Check(msgspec.Struct, frozen=True):
    """`name` is stable: docs/operators/doctor.md explains each. `seen`: what was found; `todo`: empty when ok."""

    name: str
    verdict: Verdict
    seen: str
    todo: str = ""


def ok(name: str, seen: str) -> Check:
    return Check(name, "ok", seen)


def warn(name: str, seen: str, todo: str) -> Check:
    return Check(name, "warn", seen, todo)


def fail(name: str, seen: str, todo: str) -> Check:
    return Check(name, "fail", seen, todo)


def exit_code(checks: Iterable[Check]) -> int:
    """0: nothing failed; 75: no address of the registry answers; 1: something else failed."""
    failed = {check.name for check in checks if check.verdict == "fail"}
    if not failed:
        return 0
    return 75 if UNREACHABLE in failed else 1
