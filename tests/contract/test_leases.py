"""Leases: keys that live as long as somebody vouches for them."""

import asyncio
from contextlib import aclosing

import pytest

from registry.errors import NotFound
from registry.store import Alive, Batch, Op, SessionStore
from tests.contract.backends import Bench, needs
from tests.contract.validators import PATIENCE


def sessions(bench: Bench) -> SessionStore:
    store = bench.store
    assert hasattr(store, "acquire")
    return store  # type: ignore[return-value]  # the capability says so


@needs("leases")
async def test_a_key_names_the_lease_that_it_lives_by(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl, name="host a")
    await bench.store.put(bench.root + "a", b"1", lease=lease)
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.lease == lease
    assert entry.lock_index == 1


@needs("leases")
async def test_revoking_a_lease_deletes_its_keys_and_no_others(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    other = await bench.store.grant(bench.ttl)
    await bench.store.put(bench.root + "a", b"1", lease=lease)
    await bench.store.put(bench.root + "b", b"1", lease=lease)
    await bench.store.put(bench.root + "c", b"1", lease=other)
    await bench.store.put(bench.root + "d", b"1")
    await bench.store.revoke(lease)
    names = [entry.key.removeprefix(bench.root) for entry in (await bench.store.list(bench.root)).entries]
    assert names == ["c", "d"]


@needs("leases")
async def test_the_keys_of_a_lease_go_in_one_step(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    for name in "abc":
        await bench.store.put(bench.root + name, b"1", lease=lease)
    async with asyncio.timeout(PATIENCE), aclosing(bench.store.watch(bench.root)) as watch:
        await anext(watch)
        await bench.store.revoke(lease)
        event = await anext(watch)
        while isinstance(event, Alive):
            event = await anext(watch)
    assert isinstance(event, Batch)
    assert (event.puts, set(event.deletes)) == ((), {bench.root + name for name in "abc"})


@needs("leases")
async def test_a_revoked_lease_cannot_be_renewed_or_used(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    await bench.store.renew(lease)
    await bench.store.revoke(lease)
    with pytest.raises(NotFound):
        await bench.store.renew(lease)
    with pytest.raises(NotFound):
        await bench.store.put(bench.root + "a", b"1", lease=lease)
    assert await bench.store.get(bench.root + "a") is None


@needs("leases")
async def test_a_put_without_a_lease_keeps_the_one_that_the_key_has(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    await bench.store.put(bench.root + "a", b"1", lease=lease)
    await bench.store.put(bench.root + "a", b"2")
    await bench.store.revoke(lease)
    assert await bench.store.get(bench.root + "a") is None


@needs("leases")
async def test_a_put_with_another_lease_moves_the_key(bench: Bench) -> None:
    old, new = await bench.store.grant(bench.ttl), await bench.store.grant(bench.ttl)
    await bench.store.put(bench.root + "a", b"1", lease=old)
    await bench.store.put(bench.root + "a", b"1", lease=new)
    await bench.store.revoke(old)
    entry = await bench.store.get(bench.root + "a")
    assert entry is not None
    assert entry.lease == new


@needs("leases", "time")
async def test_an_expired_lease_takes_its_keys_along(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    await bench.store.put(bench.root + "a", b"1", lease=lease)
    await bench.pass_time(bench.ttl * 0.9)
    assert await bench.store.get(bench.root + "a") is not None
    await bench.store.renew(lease)
    await bench.pass_time(bench.ttl * 0.9)
    assert await bench.store.get(bench.root + "a") is not None
    await bench.pass_time(bench.ttl * 0.2)
    assert await bench.store.get(bench.root + "a") is None
    with pytest.raises(NotFound):
        await bench.store.renew(lease)


@needs("leases", "time", "restart")
async def test_after_a_restart_every_lease_has_its_full_time_again(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    await bench.store.put(bench.root + "a", b"1", lease=lease)
    await bench.pass_time(bench.ttl * 0.9)
    await bench.restart()
    await bench.pass_time(bench.ttl * 0.9)
    assert await bench.store.get(bench.root + "a") is not None
    await bench.pass_time(bench.ttl * 0.2)
    assert await bench.store.get(bench.root + "a") is None


@needs("leases")
async def test_a_transaction_with_a_dead_lease_does_nothing(bench: Bench) -> None:
    lease = await bench.store.grant(bench.ttl)
    await bench.store.revoke(lease)
    with pytest.raises(NotFound):
        await bench.store.transact(
            [Op(key=bench.root + "a", value=b"1"), Op(key=bench.root + "b", value=b"1", lease=lease)]
        )
    assert (await bench.store.list(bench.root)).entries == ()


@needs("locks")
async def test_one_lease_holds_a_lock_until_it_lets_go(bench: Bench) -> None:
    store, key = sessions(bench), bench.root + "lock"
    mine, yours = await store.grant(bench.ttl), await store.grant(bench.ttl)
    assert await store.acquire(key, b"mine", mine)
    assert await store.acquire(key, b"mine again", mine)
    assert not await store.acquire(key, b"yours", yours)
    assert not await store.release(key, b"yours", yours)
    assert await store.release(key, b"free", mine)
    entry = await store.get(key)
    assert entry is not None
    assert (entry.value, entry.lease, entry.lock_index) == (b"free", None, 1)
    assert await store.acquire(key, b"yours", yours)
    entry = await store.get(key)
    assert entry is not None
    assert (entry.value, entry.lease, entry.lock_index) == (b"yours", yours, 2)


@needs("locks")
async def test_a_lock_cannot_be_had_with_a_dead_lease(bench: Bench) -> None:
    store = sessions(bench)
    with pytest.raises(NotFound):
        await store.acquire(bench.root + "lock", b"", "00000000-0000-0000-0000-000000000000")
    assert not await store.release(bench.root + "lock", b"", "00000000-0000-0000-0000-000000000000")


@needs("locks")
async def test_a_lease_of_behavior_release_lets_go_of_its_keys_and_leaves_them(bench: Bench) -> None:
    store = sessions(bench)
    lease = await store.grant(bench.ttl, name="lock", behavior="release")
    await store.acquire(bench.root + "a", b"1", lease)
    before = await store.get(bench.root + "a")
    await store.revoke(lease)
    after = await store.get(bench.root + "a")
    assert before is not None
    assert after is not None
    assert (after.value, after.lease) == (b"1", None)
    assert after.version > before.version


@needs("locks")
async def test_leases_are_listed_until_they_end(bench: Bench) -> None:
    store = sessions(bench)
    first = await store.grant(bench.ttl, name="host a")
    second = await store.grant(bench.ttl * 2, name="lock", behavior="release")
    mine = {lease.id: (lease.name, lease.ttl, lease.behavior) for lease in await store.leases()}
    assert mine == {first: ("host a", bench.ttl, "delete"), second: ("lock", bench.ttl * 2, "release")}
    await store.revoke(first)
    assert [lease.id for lease in await store.leases()] == [second]
