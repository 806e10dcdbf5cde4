"""The store's own decisions; what a server has a part in is proven by the contract suite (`tests/contract`)."""

import pytest

from registry.backends.etcd import CALLERS, MAX_VALUE, EtcdStore, _span
from registry.errors import Conflict, Denied, NotFound, TooLarge
from registry.store import Op
from tests.fakes.etcd import FakeEtcd


def test_a_key_is_read_with_what_lies_behind_it_and_a_prefix_to_its_end() -> None:
    assert _span("a/b", True) == (b"a/b", b"a/b\x01")
    assert _span("a/", False) == (b"a/", b"a0")
    assert _span("", False) == (b"\0", b"\0")


async def test_what_cannot_be_written_is_refused_without_asking() -> None:
    store = EtcdStore(["127.0.0.1:1"])
    with pytest.raises(Denied, match="is not a key"):
        await store.put("../x", b"1")
    with pytest.raises(Denied, match="is not a key"):
        await store.get("")
    with pytest.raises(TooLarge):
        await store.put("a", b"x" * (MAX_VALUE + 1))
    with pytest.raises(TooLarge):
        await store.transact([Op(key=f"k{n}", value=b"1") for n in range(129)])
    with pytest.raises(TooLarge):
        await store.grant(-1)
    for call in (store.renew("no-lease"), store.put("a", b"1", lease="no-lease"), store.acquire("a", b"", "no-lease")):
        with pytest.raises(NotFound):
            await call
    await store.revoke("no-lease")  # ending an unknown lease is no error
    await store.close()


async def test_a_put_that_changes_nothing_writes_nothing() -> None:
    async with FakeEtcd().serve() as etcd:
        store = EtcdStore([etcd.address])
        assert await store.delete("a") == etcd.revision
        assert etcd.asked == 1
        assert await store.put("a", b"1") == etcd.revision
        assert etcd.asked == 3  # a read and a transaction
        await store.close()


async def test_a_comparison_that_is_lost_already_when_reading_costs_no_transaction() -> None:
    async with FakeEtcd().serve() as etcd:
        store = EtcdStore([etcd.address])
        with pytest.raises(Conflict):
            await store.put("a", b"1", expect=7)
        assert etcd.asked == 1
        await store.close()


async def test_callers_keep_their_logins_and_the_oldest_are_forgotten() -> None:
    async with FakeEtcd(ana="1", host="2").serve() as etcd:
        store = EtcdStore([etcd.address], token=lambda: "host:2")
        for _ in range(2):
            await store.acting_as("ana:1").get("a")
        assert etcd.logins == 1
        for n in range(CALLERS):
            store.acting_as(f"nobody:{n}")
        await store.acting_as("ana:1").get("a")
        assert etcd.logins == 2
        await store.close()
