"""A Consul server or agent as the registry of a mesh: keys in its KV store, instances in its own catalogue.

`ConsulStore` with one difference: what other stores keep below `services/` is read from the catalogue here, so that a
watch, a listing and an index of that prefix mean the same on every store. It is written by `consul_catalog` only.
"""

import asyncio
from collections.abc import Callable, Sequence

from registry import keys
from registry.backends.consul import BACKOFF, MAX_WAIT, Backoff, ConsulStore, Found
from registry.backends.consul_feed import Feed
from registry.backends.consul_http import Api, Tls
from registry.backends.consul_services import Services
from registry.errors import Denied
from registry.store import Behind, Entry, Listing, Op, Watch


class ConsulRegistry(ConsulStore):
    """`run` follows the catalogue: watches and indexes of `services/` live by it."""

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: Callable[[], str | None] = lambda: None,
        ssl: Tls = None,
        wait: float = MAX_WAIT,
        backoff: Backoff = BACKOFF,
    ) -> None:
        super().__init__(addresses, token=token, ssl=ssl, wait=wait, backoff=backoff)
        self.services = Services(self._api)
        self.feed = Feed(self.services, wait=self._wait, backoff=backoff)

    @property
    def api(self) -> Api:
        """For requests that no store has a word for."""
        return self._api

    async def run(self) -> None:
        """Follow the catalogue, for ever."""
        await asyncio.gather(self.feed.run(), super().run())

    def behind(self) -> Behind:
        """Of the last answer about the catalogue: keys are always read as the leader has them."""
        return Behind(self.feed.age, self.feed.led)

    def acting_as(self, token: str) -> "ConsulRegistry":
        other = super().acting_as(token)
        assert isinstance(other, ConsulRegistry)
        other.services = Services(other._api)
        return other

    async def get(self, key: str) -> Entry | None:
        name = keys.parse_instance(key)
        if name is None:
            return await super().get(key)
        found = await self.services.service(self.feed.raw(name[0]), 0, 0.0)
        return found.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        if not prefix.startswith(keys.SERVICES):
            return await super().list(prefix)
        service = _service(prefix)
        if service:
            found = await self.services.service(self.feed.raw(service), 0, 0.0)
        else:
            found = await self.services.everything(0, 0.0)
        inside = (key for key in sorted(found.entries) if key.startswith(prefix))
        return Listing(tuple(found.entries[key] for key in inside), found.index)

    async def transact(self, ops: Sequence[Op]) -> int:
        for op in ops:
            if op.key.startswith(keys.SERVICES):
                raise Denied(f"{op.key}: instances are Consul's own services here: register them with an agent")
        return await super().transact(ops)

    def watch(self, prefix: str, *, after: int | None = None) -> Watch:
        return self.feed.watch() if prefix == keys.SERVICES else super().watch(prefix, after=after)

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        if prefix.startswith(keys.SERVICES):
            return self.feed.index(_service(prefix))
        found = await super().index(prefix, exact=exact)
        return max(found, self.feed.index()) if not exact and keys.SERVICES.startswith(prefix) else found

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        while prefix.startswith(keys.SERVICES):
            if (found := self.feed.index(_service(prefix))) != after:
                return found
            await self.feed.changed()
        if exact or not keys.SERVICES.startswith(prefix):
            return await super().wait_index(prefix, after, exact=exact)
        while True:
            seen = self.feed.index()  # before looking, so that no change falls between
            stored = await super().index(prefix)
            if (found := max(seen, stored)) != after:
                return found
            await self._either(prefix, stored, seen)

    async def _either(self, prefix: str, stored: int, seen: int) -> None:
        """Until a key below the prefix or the catalogue changes."""
        if self.feed.index() != seen:
            return
        try:
            async with asyncio.timeout(None) as limit:
                self.feed.waking(limit)
                try:
                    await super().wait_index(prefix, stored)
                finally:
                    self.feed.unwaking(limit)
        except TimeoutError:
            return

    async def _read(self, key: str, params: tuple[tuple[str, str], ...]) -> Found:
        found = await super()._read(key, params)
        if not found[1] and ("recurse", "1") in params:
            # Without rights Consul lists nothing where it refuses to show one key: ask for one before it is believed
            await super()._read(keys.STORE_ID, ())
        return found


def _service(prefix: str) -> str:
    return prefix.removeprefix(keys.SERVICES).partition("/")[0]
