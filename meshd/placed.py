"""YAML with places: what a file says and in which line, so that a fault can be named where it stands."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import yaml


class Fault(msgspec.Struct, frozen=True):
    """One thing that is wrong: `place` is `file:line`, a variable or a flag; `hint` says what would be right."""

    place: str
    message: str
    hint: str = ""

    def __str__(self) -> str:
        return f"{self.place}: {self.message}" + (f" ({self.hint})" if self.hint else "")


class ConfigError(Exception):
    """The configuration cannot be used; the process ends with 78."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("\n".join(map(str, faults)))
        self.faults = faults


def read(path: Path, places: dict[str, str]) -> dict[str, Any]:
    """The file's mapping; `places` gets the line of every path (`$.Ports.Api`). Raises ConfigError."""
    try:
        text = path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(Fault(str(path), f"cannot be read: {getattr(error, 'strerror', None) or error}")) from None
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        tree = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise ConfigError(Fault(f"{path}:{line}", f"no YAML: {error.problem}")) from None
    except yaml.YAMLError as error:
        raise ConfigError(Fault(str(path), f"no YAML: {error}")) from None
    if root is None:
        return {}
    if not isinstance(tree, dict):
        raise ConfigError(Fault(f"{path}:1", "the file must be a mapping", "for example: Node: a"))
    faults: list[Fault] = []
    _mark(root, "$", path, places, faults)
    if faults:
        raise ConfigError(*faults)
    return tree


def _mark(node: yaml.Node, at: str, path: Path, places: dict[str, str], faults: list[Fault]) -> None:
    places[at] = f"{path}:{node.start_mark.line + 1}"
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            here = f"{at}.{key.value}"
            if here in places:
                faults.append(Fault(f"{path}:{key.start_mark.line + 1}", f"{here[2:]} is given twice"))
            _mark(value, here, path, places, faults)
            places[here] = f"{path}:{key.start_mark.line + 1}"
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _mark(value, f"{at}[{number}]", path, places, faults)


def place_of(places: Mapping[str, str], at: str) -> str:
    """The nearest enclosing place that is known."""
    while at not in places and at not in ("$", ""):
        at = at[: max(at.rfind("."), at.rfind("["))]
    return places.get(at, "configuration")
