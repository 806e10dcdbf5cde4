"""Two of three servers are killed: who is there is still read, marked as old; everything else fails, and soon.

Consul reads the catalogue so and keys never; etcd has no catalogue: services, leases, nodes and status are read so.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager, contextmanager
from functools import partial
from pathlib import Path

import pytest

from registry import keys
from registry.backends.consul_registry import ConsulRegistry
from registry.backends.etcd import EtcdStore
from registry.errors import Unavailable
from registry.store import Lost, Replicated, Store
from tests.consul_server import NEWER, OLDER, consul_cluster
from tests.contract.validators import PATIENCE
from tests.etcd_server import newer, older, running_cluster
from tests.fakes.running import running

pytestmark = [pytest.mark.outages, pytest.mark.timeout(120)]

POLICY = keys.policy("service-intentions", "api")
# Seconds. Consul's server looks for a leader for 7 s before it says that there is none (performance.rpc_hold_timeout).
FAST = {"etcd": 4.0, "consul": 9.0}


@contextmanager
def etcd(version: Callable[[], Path], directory: Path) -> Iterator[tuple[Store, Callable[[], None]]]:
    with running_cluster(version()) as members:
        members[0].etcdctl("put", keys.instance("api", "a", "1"), "{}")

        def lose() -> None:
            for member in members[1:]:
                member.stop()

        yield EtcdStore([member.url for member in members]), lose


@contextmanager
def consul(program: str, directory: Path) -> Iterator[tuple[Store, Callable[[], None]]]:
    with consul_cluster(directory, program) as members:
        node = {"Node": "a", "Address": "10.0.0.1", "Service": {"Service": "api", "ID": "1", "Port": 1}}
        members[0].call("PUT", "/v1/catalog/register", node)

        def lose() -> None:
            for member in members[1:]:
                member.kill()

        addresses = [member.url for member in members]
        token = members[0].management
        yield ConsulRegistry(addresses, token=lambda: token, ssl=members[0].client_context(), wait=1.0), lose


CLUSTERS = {
    "etcd-3.4": (etcd, older),
    "etcd-3.7": (etcd, newer),
    "consul-1.8": (consul, OLDER),
    "consul-1.13": (consul, NEWER),
}


async def told(store: EtcdStore | ConsulRegistry) -> None:
    """A host follows services, and what Consul answers to that says whether there is a leader."""
    async with aclosing(store.watch(keys.SERVICES)) as events:
        async for _ in events:
            pass


@asynccontextmanager
async def following(store: EtcdStore | ConsulRegistry) -> AsyncIterator[None]:
    async with running(store.run(), told(store)):
        try:
            yield
        finally:
            await store.close()


async def listed(store: Store) -> tuple[str, ...]:
    """What is below services/, as soon as anybody answers."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                return tuple(entry.key for entry in (await store.list(keys.SERVICES)).entries if "/api/" in entry.key)
            except Unavailable:
                await asyncio.sleep(0.1)


@pytest.mark.parametrize("name", CLUSTERS)
async def test_without_a_leader_who_is_there_is_read_and_marked_and_writes_fail_fast(name: str, tmp_path: Path) -> None:
    make, version = CLUSTERS[name]
    with make(version, tmp_path) as (store, lose):  # type: ignore[operator]  # each with its own version
        assert isinstance(store, EtcdStore | ConsulRegistry)
        async with following(store), aclosing(store.watch(keys.POLICY)) as watch:
            await store.put(POLICY, b"{}")
            found = await listed(store)
            assert len(found) == 1
            assert isinstance(store, Replicated)
            assert store.behind().led
            await asyncio.to_thread(lose)
            async with asyncio.timeout(PATIENCE):
                while not isinstance(await anext(watch), Lost):
                    pass
            assert await listed(store) == found
            for call in (
                partial(store.put, POLICY, b"[]"),
                partial(store.get, POLICY),
                partial(store.list, keys.POLICY),
            ):
                begun = time.monotonic()
                with pytest.raises(Unavailable):
                    await call()
                assert time.monotonic() - begun < FAST[name.partition("-")[0]]
            assert await listed(store) == found
            async with asyncio.timeout(PATIENCE):
                while store.behind().led:  # noqa: ASYNC110 - Consul's feed asks by itself, now and then
                    await asyncio.sleep(0.05)  # sleep: between two looks
            assert store.behind().seconds >= 0
