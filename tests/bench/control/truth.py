"""What was written, as the validators ask for it, and kept for processes that judge by it."""

import bisect
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.contract.validators import Truth

KIND = "service-intentions"
DOCUMENTS = 50  # that change, one after the other
LAST = "last"  # the one that is written once, at the end

Write = tuple[int, str, bytes]  # index, key, value


@dataclass
class Written(Truth):
    """As `Truth`, quick for thousands of writes in the order of their indexes. `indexed`: the store told them."""

    indexed: bool = True
    _begun: list[int] = field(default_factory=list)

    def wrote(self, index: int, changes: dict[str, bytes | None]) -> None:
        super().wrote(index, changes)
        self._begun.append(index)

    def at(self, index: int) -> dict[str, bytes]:
        place = bisect.bisect_right(self._begun, index)
        return self.history[self._begun[place - 1]] if place else {}

    @classmethod
    def of(cls, written: Sequence[Write], selector: str) -> Self:
        """What a watch of the selector is to tell."""
        made = cls()
        for index, key, value in written:
            if matches(selector, key):
                made.indexed = made.indexed and index > 0
                made.wrote(index, {key: value})
        return made


def matches(selector: str, key: str) -> bool:
    return key == selector or (selector.endswith("/") and key.startswith(selector))


def save(path: Path, written: Sequence[Write]) -> None:
    path.write_text(json.dumps([(index, key, value.decode()) for index, key, value in written]))


def read(path: Path) -> list[Write]:
    return [(index, key, value.encode()) for index, key, value in json.loads(path.read_text())]
