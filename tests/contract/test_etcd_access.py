"""Who etcd lets in, and whom the client believes: accounts, tokens that expire, TLS with a private authority."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from signal import SIGTERM

import pytest

from registry.backends.etcd import EtcdStore
from registry.backends.etcd_links import Backoff, Tls
from registry.errors import Denied, Unavailable
from registry.store import Alive, Batch, Lost, Resync
from tests.contract.validators import PATIENCE, news
from tests.etcd_server import Server, etcd_server, guard, newer, older, running_etcd
from tests.fakes.pki import Pki
from tests.fakes.running import running

OPEN = "mesh/v1/services/"
CLOSED = "mesh/v1/policy/"
NODE = "node:secret"
pytestmark = [pytest.mark.outages, pytest.mark.timeout(90)]


@pytest.fixture(params=["3.4", "3.7"])
def guarded(request: pytest.FixtureRequest) -> Iterator[Server]:
    """Authentication is on; `node` may do everything below services/, and nothing elsewhere. Tokens live 1 s unused."""
    binary = older() if request.param == "3.4" else newer()
    with running_etcd(binary, ["--auth-token-ttl", "1"]) as server:
        guard(server, {NODE: OPEN})
        yield server


@asynccontextmanager
async def opened(server: Server, secret: Callable[[], str | None], alive: float = 0.2) -> AsyncIterator[EtcdStore]:
    store = EtcdStore([server.address], token=secret, alive=alive, backoff=Backoff(jitter=lambda: 0.2))
    try:
        async with running(store.run()):
            yield store
    finally:
        await store.close()


async def test_what_is_not_permitted_is_denied(guarded: Server) -> None:
    async with opened(guarded, lambda: NODE) as store:
        await store.put(OPEN + "a", b"1")
        for call in (store.get(CLOSED + "a"), store.put(CLOSED + "a", b"1"), store.list(CLOSED), store.leases()):
            with pytest.raises(Denied, match="permission denied"):
                await call
        for after in (None, 1):
            async with aclosing(store.watch(CLOSED, after=after)) as watch:
                with pytest.raises(Denied, match="permission denied"):
                    await news(watch)
        assert await store.get(OPEN + "a") is not None


async def test_a_watch_that_is_denied_leaves_the_others_alone(guarded: Server) -> None:
    async with opened(guarded, lambda: NODE) as store, aclosing(store.watch(OPEN)) as good:
        assert isinstance(await news(good), Resync)
        async with aclosing(store.watch(CLOSED, after=1)) as bad:
            with pytest.raises(Denied):
                await news(bad)
        await store.put(OPEN + "a", b"1")
        assert isinstance(await news(good), Batch)


@pytest.mark.parametrize("secret", ["node:wrong", "nobody:secret", "no-token", None])
async def test_who_cannot_log_in_is_denied(guarded: Server, secret: str | None) -> None:
    async with opened(guarded, lambda: secret) as store:
        with pytest.raises(Denied):
            await store.put(OPEN + "a", b"1")
        async with aclosing(store.watch(OPEN, after=1)) as watch:
            with pytest.raises(Denied):
                await news(watch)


async def test_a_token_that_has_expired_is_renewed_for_calls_leases_and_further_watches(guarded: Server) -> None:
    async with opened(guarded, lambda: NODE, alive=30) as store, aclosing(store.watch(OPEN)) as watch:
        assert isinstance(await news(watch), Resync)
        lease = await store.grant(30)
        before = store._client.login.logins
        await expired(guarded, store)
        async with aclosing(store.watch(OPEN, after=await asyncio.wait_for(root_index(guarded), 5))) as second:
            reading = [news(watch), news(second)]
            both = asyncio.gather(*reading)
            await asyncio.sleep(0)
            await asyncio.to_thread(guarded.etcdctl, "put", OPEN + "b", "2", user="root:root")
            events = await asyncio.wait_for(both, PATIENCE)
        assert isinstance(events[0], Batch)  # the open watch did not notice
        assert isinstance(events[1], Batch | Resync)
        await expired(guarded, store)
        await store.renew(lease)
        await expired(guarded, store)
        await store.put(OPEN + "c", b"3", lease=lease)
    assert store._client.login.logins > before


async def expired(server: Server, store: EtcdStore) -> None:
    """Wait until the server has forgotten the store's token."""
    token = store._client.login.token
    async with asyncio.timeout(PATIENCE):
        while True:
            probe = EtcdStore([server.address], token=lambda: token)
            await asyncio.sleep(2.5)  # asking would keep it alive
            try:
                await probe.get(OPEN + "x")
            except Denied:
                return
            finally:
                await probe.close()


async def root_index(server: Server) -> int:
    store = EtcdStore([server.address], token=lambda: "root:root")
    try:
        return await store.index("")
    finally:
        await store.close()


async def test_a_restart_that_forgets_all_tokens_is_survived(guarded: Server) -> None:
    async with opened(guarded, lambda: NODE) as store, aclosing(store.watch(OPEN)) as watch:
        assert isinstance(await news(watch), Resync)
        await asyncio.to_thread(guarded.stop, SIGTERM)
        assert isinstance(await news(watch), Lost)
        await asyncio.to_thread(guarded.start)
        await asyncio.to_thread(guarded.etcdctl, "put", OPEN + "b", "2", user="root:root")
        assert isinstance(await news(watch), Batch | Resync)
        await store.put(OPEN + "c", b"3")


async def test_another_caller_has_its_own_rights(guarded: Server) -> None:
    async with opened(guarded, lambda: "root:root") as store:
        await store.put(CLOSED + "a", b"1")
        other = store.acting_as(NODE)
        with pytest.raises(Denied):
            await other.put(CLOSED + "a", b"2")
        with pytest.raises(Denied):
            await other.wait_index(CLOSED, 1)
        await other.put(OPEN + "a", b"1")
        assert await other.wait_index(OPEN, 1) > 1
        with pytest.raises(Denied):
            await store.acting_as("node:wrong").get(OPEN + "a")


# ---- TLS --------------------------------------------------------------------------------------------------------


def tls_files(roots: Path, own: tuple[Path, Path]) -> Callable[[], Tls]:
    return lambda: Tls(roots.read_bytes(), own[0].read_bytes(), own[1].read_bytes())


@asynccontextmanager
async def served(directory: Path, pki: Pki, name: str) -> AsyncIterator[Server]:
    """A member with a certificate for its address."""
    server = etcd_server(older(), directory / "etcd")
    server.tls = (*pki.issue(name, address=server.host), pki.roots)
    await asyncio.to_thread(server.start)
    try:
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def test_a_private_authority_and_a_client_certificate(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    async with served(tmp_path, pki, "server") as server:
        store = EtcdStore([server.url], tls=tls_files(pki.roots, pki.issue("client")))
        assert await store.put(OPEN + "a", b"1") > 0
        await store.close()


async def test_a_client_of_another_authority_is_not_let_in(tmp_path: Path) -> None:
    pki, other = Pki(tmp_path), Pki(tmp_path / "other", "other")
    async with served(tmp_path, pki, "server") as server:
        store = EtcdStore([server.url], tls=tls_files(pki.roots, other.issue("client")))
        with pytest.raises(Unavailable):
            await store.put(OPEN + "a", b"1")
        await store.close()


async def test_a_renewed_client_certificate_is_used_by_the_running_watch(tmp_path: Path) -> None:
    pki = Pki(tmp_path)
    held = [pki.issue("client")]
    async with served(tmp_path, pki, "server") as server:
        store = EtcdStore([server.url], tls=lambda: tls_files(pki.roots, held[-1])(), alive=0.2)
        async with running(store.run()), aclosing(store.watch(OPEN)) as watch:
            assert isinstance(await news(watch), Resync)
            before = store._links._channels[server.address]
            held.append(pki.issue("renewed"))
            async with asyncio.timeout(PATIENCE):
                while store._links._channels.get(server.address) in (before, None):
                    assert isinstance(await anext(watch), Alive)
            await store.put(OPEN + "a", b"1")
            assert isinstance(await news(watch), Batch)
        await store.close()
