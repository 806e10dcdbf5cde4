"""A Consul server or agent as the registry of a mesh: keys in its KV store, instances in its own catalogue.

`ConsulStore` with one difference: what other stores keep below `services/` is read from the catalogue here, so that a
watch, a listing and an index of that prefix mean the same on every store. It is written by `consul_catalog` only.
"""

from collections.abc import Callable, Sequence
from functools import partial

from registry import keys
from registry.backends.consul import BACKOFF, MAX_WAIT, Backoff, ConsulStore, Found
from registry.backends.consul_feed import Feed
from registry.backends.consul_http import Api, Tls
from registry.backends.consul_services import Services
from registry.errors import Denied
from registry.race import first
from registry.store import Behind, Entry, Listing, Op, Watch


class ConsulRegistry(ConsulStore):
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
        self.feed = Feed(self.services, wait=self._wait, backoff=backoff, closed=lambda: self._links.closed)

    @property
    def api(self) -> Api:
        """For requests that no store has a word for."""
        return self._api

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
        found = await self.services.service(await self.feed.raw(name[0]), 0, 0.0)
        return found.entries.get(key)

    async def list(self, prefix: str) -> Listing:
        if not prefix.startswith(keys.SERVICES):
            return await super().list(prefix)
        service = _service(prefix)
        if service:
            found = await self.services.service(await self.feed.raw(service), 0, 0.0)
        else:
            found = await self.services.everything(0, 0.0)
        inside = (key for key in sorted(found.entries) if key.startswith(prefix))
        return Listing(tuple(found.entries[key] for key in inside), found.index)

    async def glance(self, selector: str) -> Listing:
        return await (self.list if selector.startswith(keys.SERVICES) else super().glance)(selector)

    async def transact(self, ops: Sequence[Op]) -> int:
        for op in ops:
            if op.key.startswith(keys.SERVICES):
                raise Denied(f"{op.key}: instances are Consul's own services here: register them with an agent")
        return await super().transact(ops)

    def watch(self, selector: str, *, after: int | None = None) -> Watch:
        if not selector.startswith(keys.SERVICES):
            return super().watch(selector, after=after)
        return self.feed.watch(_service(selector))

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        if prefix.startswith(keys.SERVICES):
            return await self.feed.index(_service(prefix))
        found = await super().index(prefix, exact=exact)
        return max(found, await self.feed.index()) if not exact and keys.SERVICES.startswith(prefix) else found

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        if prefix.startswith(keys.SERVICES):
            return await self.feed.wait_index(_service(prefix), after)
        if exact or not keys.SERVICES.startswith(prefix):
            return await super().wait_index(prefix, after, exact=exact)
        listed, stored = await self.feed.index(), await super().index(prefix)
        if max(listed, stored) != after:
            return max(listed, stored)
        keyed = partial(super().wait_index, prefix, stored)
        await first(keyed, partial(self.feed.wait_index, "", listed))
        return await self.index(prefix)

    async def _read(self, key: str, params: tuple[tuple[str, str], ...]) -> Found:
        found = await super()._read(key, params)
        if not found[1] and ("recurse", "1") in params:
            # Without rights Consul lists nothing where it refuses to show one key: ask for one before it is believed
            await super()._read(keys.STORE_ID, ())
        return found


def _service(prefix: str) -> str:
    return prefix.removeprefix(keys.SERVICES).partition("/")[0]
