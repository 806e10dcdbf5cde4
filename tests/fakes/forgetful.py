"""Any store, with watches that forget to tell a change: what no backend may do, and what the mesh must survive."""

from collections.abc import AsyncGenerator
from contextlib import aclosing

import msgspec

from registry.store import Batch, Entry, Listing, Store, Watch, WatchEvent


class ForgetfulStore:
    """Reads through to `store`. `forget` names keys of which no change is told from now on; listings are true."""

    def __init__(self, store: Store) -> None:
        self.forget: set[str] = set()
        self._store = store

    async def get(self, key: str) -> Entry | None:
        return await self._store.get(key)

    async def list(self, prefix: str) -> Listing:
        return await self._store.list(prefix)

    def watch(self, selector: str, *, after: int | None = None) -> Watch:
        return self._watch(selector, after)

    async def _watch(self, selector: str, after: int | None) -> AsyncGenerator[WatchEvent, None]:
        async with aclosing(self._store.watch(selector, after=after)) as events:
            async for event in events:
                yield self._what_is_told(event)

    def _what_is_told(self, event: WatchEvent) -> WatchEvent:
        if not isinstance(event, Batch):
            return event
        puts = tuple(entry for entry in event.puts if entry.key not in self.forget)
        deletes = tuple(key for key in event.deletes if key not in self.forget)
        return msgspec.structs.replace(event, puts=puts, deletes=deletes)
