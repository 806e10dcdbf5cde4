"""What was written, as the validators ask for it, and kept for processes that judge by it."""

import bisect
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from tests.contract.validators import Truth


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
    def read(cls, path: Path) -> Self:
        made = cls()
        for index, key, value in json.loads(path.read_text()):
            made.indexed = made.indexed and index > 0
            made.wrote(index, {key: value.encode()})
        return made


def save(path: Path, written: list[tuple[int, str, bytes]]) -> None:
    path.write_text(json.dumps([(index, key, value.decode()) for index, key, value in written]))
