"""Documents that the store has lost: did somebody mean it, or is it part of a wave?

`history/<kind>/<name>/deleted` says so. `meshctl delete` writes "meant" in the transaction that deletes. What other
tools did is judged by the hosts with a role, which follow all policy: each judges what it sees (`registry.shelf`) and
writes "believed" or "held". All others follow only what they use, so no wave is one to them: they ask, keep a document
in force until somebody has answered or `PATIENCE` is over, and go on asking for a while, since a wave may be
recognised late.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

from meshd.control import history
from registry.change import Verdict
from registry.errors import Conflict, RegistryError
from registry.fold import Fold
from registry.store import Store

PATIENCE = 900.0  # seconds that a host without a role waits for the word of one with a role, as for an orphan
FIRST_LOOK = 0.1  # seconds, then twice as long each time
RETRY = 5.0  # between two looks at the most, and
EACH = 0.05  # for each document, so that a thousand of them are no load
UNKNOWN = "unknown (deleted in the store directly)"

Name = tuple[str, str]  # (kind, name)


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class Deletions:
    """`explained` is told what was found. `judges`: this host has a role, and says what it finds itself."""

    def __init__(
        self,
        store: Store,
        fold: Fold,
        explained: Callable[[Mapping[Name, Verdict]], None],
        log: Log,
        now: Callable[[], float],
        *,
        judges: bool,
    ) -> None:
        self._store = store
        self._fold = fold
        self._explained = explained
        self._log = log
        self._now = now
        self._judges = judges
        self._news = asyncio.Event()
        self._wait = FIRST_LOOK
        self._lost: Mapping[Name, int] = {}
        self._held: frozenset[Name] = frozenset()
        self._failing = False
        if not judges:
            fold.await_word(PATIENCE)

    def changed(self) -> None:
        """The fold moved: look at once for what is newly lost."""
        if self._fold.unexplained.items() - self._lost.items():
            self._news.set()

    def look(self) -> None:
        """Somebody here has just said something of a deletion."""
        self._news.set()

    async def run(self) -> None:
        while True:
            count = len(self._fold.unexplained)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(self._wait, EACH * count) if count else None):
                    await self._news.wait()
            self._wait = FIRST_LOOK if self._news.is_set() else min(RETRY, 2 * self._wait)
            self._news.clear()
            await self._round()
            self._say()

    async def _round(self) -> None:
        self._lost = dict(self._fold.unexplained)
        for name, version in sorted(self._lost.items()):
            try:
                found, at = await history.verdict(self._store, name, version)
                mine = self._judged(name) if self._judges else None
                # what one host has held the others do not believe, and what was meant nobody holds
                if mine is not None and (found is None or (found, mine) == ("believed", "held")):
                    await self._write(name, version, mine, at)
                elif found is not None:
                    self._explained({name: found})
            except RegistryError as error:
                if not self._failing:
                    self._log.warning("cannot be asked whether its deletion was meant", document="/".join(name),
                                      error=str(error))  # fmt: skip
                self._failing = True
                return
        self._failing = False

    def _judged(self, name: Name) -> Verdict | None:
        """What this host has made of it; None: nothing yet."""
        if name in self._fold.held_documents:
            return "held"
        return None if name in self._fold.documents else "believed"

    async def _write(self, name: Name, version: int, verdict: Verdict, at: int) -> None:
        op = history.deletion(name, version, UNKNOWN, self._now(), verdict, expect=at)
        with contextlib.suppress(Conflict):  # somebody else was quicker: read next time
            await self._store.transact([op])

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
