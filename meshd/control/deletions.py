"""Documents that the store has lost: did somebody mean it?

`meshctl delete` writes `history/<kind>/<name>/deleted` in the transaction that deletes the document. Whoever misses a
document looks there: what was meant goes at once, also out of a hold; what nobody has answered for is judged by the
fold (`registry.shelf`). Held documents are asked for again and again, since an operator may still say so.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Protocol

from meshd.control import history
from registry.errors import RegistryError
from registry.fold import Fold
from registry.store import Store

RETRY = 5.0  # seconds between two looks for documents that are held

Name = tuple[str, str]  # (kind, name)


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Deletions:
    """`meant` is told the names that may go."""

    def __init__(self, store: Store, fold: Fold, meant: Callable[[frozenset[Name]], None], log: Log) -> None:
        self._store = store
        self._fold = fold
        self._meant = meant
        self._log = log
        self._news = asyncio.Event()
        self._asked: dict[Name, int] = {}  # the versions that the store has answered for
        self._held: frozenset[Name] = frozenset()

    def changed(self) -> None:
        """The fold moved."""
        if self._fold.unexplained:
            self._news.set()

    async def run(self) -> None:
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(RETRY if self._fold.held_documents else None):
                    await self._news.wait()
            self._news.clear()
            meant = await self._look()
            if meant:
                self._meant(meant)
            self._say()

    async def _look(self) -> frozenset[Name]:
        """Which of the lost documents were deleted on purpose."""
        lost, held = dict(self._fold.unexplained), self._fold.held_documents
        self._asked = {name: version for name, version in self._asked.items() if lost.get(name) == version}
        found = set()
        for name in sorted(lost):
            if self._asked.get(name) == lost[name] and name not in held:
                continue
            try:
                if await history.was_meant(self._store, *name, lost[name]):
                    found.add(name)
            except RegistryError as error:
                self._log.warning("cannot be asked whether its deletion was meant", document="/".join(name),
                                  error=str(error))  # fmt: skip
                break
            self._asked[name] = lost[name]
        return frozenset(found)

    def _say(self) -> None:
        held = self._fold.held_documents
        if held - self._held:
            self._log.error(
                "documents vanished from the store and stay in force: write them back, or `meshctl delete` them,"
                " or `meshctl registry adopt`",
                documents=sorted("/".join(name) for name in held),
            )
        elif self._held and not held:
            self._log.warning("no document is held any more")
        self._held = held
