"""Whom Consul lets in: tokens with the rules of deploy/consul, revoked and replaced under a running watch."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import pytest

from registry import keys
from registry.backends.consul_registry import ConsulRegistry
from registry.errors import Denied
from registry.store import Batch, Op, Resync, Watch
from tests.consul_server import ConsulServer
from tests.contract.consul_backends import CONSULS, WAIT, wipe
from tests.contract.validators import PATIENCE, news

POLICY = keys.policy("service-intentions", "api")


@pytest.fixture(params=CONSULS)
def consul(request: pytest.FixtureRequest) -> ConsulServer:
    server = CONSULS[request.param].server()
    wipe(server)
    server.call("PUT", f"/v1/kv/{keys.STORE_ID}", "id")
    return server


@asynccontextmanager
async def opened(server: ConsulServer, held: list[str]) -> AsyncIterator[ConsulRegistry]:
    """A store that shows the last of the tokens that are held, as one that is read from a file again."""
    store = ConsulRegistry([server.url], token=lambda: held[-1], ssl=server.client_context(), wait=WAIT)
    try:
        yield store
    finally:
        await store.close()


async def test_what_is_not_permitted_is_denied_and_no_transaction_is_done_in_part(consul: ConsulServer) -> None:
    async with opened(consul, [consul.host_token("b", ["api"])]) as store:
        await store.put(keys.lease("b"), b"{}")
        assert (await store.list(keys.POLICY)).entries == ()
        both = [Op(key=keys.lease("b"), value=b"[]"), Op(key=POLICY, value=b"{}")]
        for call in (store.put(POLICY, b"{}"), store.delete(POLICY), store.transact(both), store.get(keys.CA_ISSUED)):
            with pytest.raises(Denied):
                await call
        entry = await store.get(keys.lease("b"))
        assert entry is not None
        assert entry.value == b"{}"


async def test_a_token_that_is_revoked_under_a_watch_denies_it_and_the_next_one_goes_on(consul: ConsulServer) -> None:
    held = [consul.host_token("b", ["api"])]
    async with opened(consul, held) as store:
        consul.call("PUT", f"/v1/kv/{POLICY}", {})
        async with aclosing(store.watch(keys.POLICY)) as watch:
            first = await news(watch)
            assert isinstance(first, Resync)
            known = consul.call("GET", "/v1/acl/token/self", token=held[0])
            await asyncio.to_thread(consul.call, "DELETE", f"/v1/acl/token/{known['AccessorID']}")
            with pytest.raises(Denied):
                await followed(watch)
        with pytest.raises(Denied):
            await store.get(POLICY)
        held.append(consul.host_token("b", ["api"]))
        consul.call("PUT", f"/v1/kv/{POLICY}", {"Sources": []})
        async with aclosing(store.watch(keys.POLICY, after=first.index)) as watch:
            event = await news(watch)
    assert isinstance(event, Batch | Resync)
    entries = event.puts if isinstance(event, Batch) else event.entries
    assert [entry.key for entry in entries] == [POLICY]


async def followed(watch: Watch) -> None:
    """To its end, which is an error."""
    async with asyncio.timeout(PATIENCE):
        async for _ in watch:
            pass


async def test_who_shows_no_token_or_an_unknown_one_sees_nothing_and_no_emptiness(consul: ConsulServer) -> None:
    for token in ("", "0a1b2c3d-0000-0000-0000-000000000000"):
        async with opened(consul, [token]) as store:
            with pytest.raises(Denied):
                await store.list(keys.POLICY)
            async with aclosing(store.watch(keys.POLICY)) as watch:
                with pytest.raises(Denied):
                    await news(watch)
