"""What every document has."""

from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True, kw_only=True)
class Base:
    """`name` is that of the key: a service, `prefix*` or `*` (a fault: its own name). `version`: doc_version."""

    kind: ClassVar[str]

    name: str
    version: int

    def origin(self, path: str) -> str:
        """`kind/name#path@doc_version`: carried by every compiled rule, shown in denials, explain and hits."""
        return f"{self.kind}/{self.name}#{path}@{self.version}"
