"""What moved in the fold, in the words of those who act on it. Pure."""

from collections.abc import Mapping
from typing import Literal

import msgspec

from registry import keys

Verdict = Literal["meant", "believed", "held"]  # of a deletion


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one event moved. False when nothing did.

    `services`: endpoints may differ; `documents`: (kind, name); `trust`: roots or revocations; `store`: its identity.
    """

    services: frozenset[str] = frozenset()
    documents: frozenset[tuple[str, str]] = frozenset()
    trust: bool = False
    store: bool = False

    def __bool__(self) -> bool:
        return bool(self.services or self.documents or self.trust or self.store)

    def __or__(self, other: "Change") -> "Change":
        return Change(
            services=self.services | other.services,
            documents=self.documents | other.documents,
            trust=self.trust or other.trust,
            store=self.store or other.store,
        )


def moved_on(keys_by_prefix: Mapping[str, frozenset[str]]) -> Change:
    """What moved on shelves, as the fold reports it."""
    documents = frozenset[str]().union(*(keys_by_prefix.get(one, frozenset()) for one in (keys.POLICY, keys.CONFIG)))
    return Change(
        documents=document_names(documents),
        trust=any(keys_by_prefix.get(one) for one in (keys.CA_ROOTS, keys.REVOCATIONS)),
    )


def document_names(moved: frozenset[str]) -> frozenset[tuple[str, str]]:
    names = (keys.parse_policy(key) for key in moved)
    return frozenset(name for name in names if name is not None)
