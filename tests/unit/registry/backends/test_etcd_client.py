"""Calls under a token, and keep-alives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from registry.backends.etcd_client import TXN, Client
from registry.backends.etcd_links import Links
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied, NotFound, Unavailable
from tests.fakes.etcd import FakeEtcd


@asynccontextmanager
async def client(etcd: FakeEtcd, secret: str | None = "node:secret") -> AsyncIterator[Client]:
    async with etcd.serve():
        one = Client(Links([etcd.address]), lambda: secret)
        yield one
        await one.links.close()


async def test_a_call_whose_token_has_expired_is_made_again_under_a_new_one() -> None:
    etcd = FakeEtcd(node="secret")
    etcd.kvs = [pb.KeyValue(key=b"a", value=b"1")]
    async with client(etcd) as one:
        assert [kv.value for kv in (await one.range(b"a")).kvs] == [b"1"]
        etcd.tokens.clear()
        assert [kv.value for kv in (await one.range(b"a")).kvs] == [b"1"]
        assert etcd.logins == 2


async def test_a_token_that_is_refused_at_once_again_is_a_denial() -> None:
    etcd = FakeEtcd(node="secret")
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.failing = (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
        with pytest.raises(Denied, match="invalid auth token"):
            await one.range(b"a")
        assert etcd.logins == 2


async def test_without_an_account_a_refusal_is_a_denial() -> None:
    async with client(FakeEtcd(node="secret"), None) as one:
        with pytest.raises(Denied):
            await one.range(b"a")
        with pytest.raises(Denied):
            await one.keep_alive(7)


async def test_a_lease_is_kept_alive_also_under_a_renewed_token() -> None:
    etcd = FakeEtcd(node="secret")
    etcd.leases.add(7)
    async with client(etcd) as one:
        await one.keep_alive(7)
        etcd.tokens.clear()
        await one.keep_alive(7)
        assert etcd.logins == 2


async def test_a_lease_that_has_ended_is_not_found() -> None:
    async with client(FakeEtcd()) as one:
        with pytest.raises(NotFound, match="lease 7 does not exist"):
            await one.keep_alive(7)


async def test_a_member_that_fails_is_not_asked_first_again() -> None:
    etcd, other = FakeEtcd(), FakeEtcd()
    other.leases.add(7)
    async with etcd.serve(), other.serve():
        one = Client(Links([etcd.address, other.address]), lambda: None)
        etcd.failing = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        with pytest.raises(Unavailable, match=f"LeaseKeepAlive at {etcd.address}: etcdserver: no leader"):
            await one.keep_alive(7)
        await one.keep_alive(7)
        await one.links.close()


async def test_a_read_that_is_not_answered_in_time_is_made_again_under_a_new_token() -> None:
    """A wiped etcd waits with a token of the store before it, and never refuses it."""
    etcd = FakeEtcd(node="secret")
    etcd.kvs = [pb.KeyValue(key=b"a", value=b"1")]
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.stuck = set(etcd.tokens)
        assert [kv.value for kv in (await one.range(b"a")).kvs] == [b"1"]
        assert etcd.logins == 2
        etcd.failing = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        with pytest.raises(Unavailable):
            await one.range(b"a")
        etcd.failing = None
        await one.range(b"a")
        assert etcd.logins == 2, "the server has answered: the token is not in doubt"


async def test_a_write_that_is_not_answered_in_time_is_not_made_again() -> None:
    etcd = FakeEtcd(node="secret")
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.stuck = set(etcd.tokens)
        with pytest.raises(Unavailable, match="may have been applied"):
            await one.call(TXN, pb.TxnRequest())
        await one.range(b"a")
        assert etcd.logins == 2


async def test_accounts_switched_on_later_are_noticed_also_where_a_certificate_speaks_for_us() -> None:
    etcd = FakeEtcd()
    etcd.certified = True
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.accounts["node"] = "secret"
        await one.range(b"a")
        assert etcd.logins == 1


async def test_a_denial_under_a_token_is_one() -> None:
    etcd = FakeEtcd(node="secret")
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.failing = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        with pytest.raises(Denied):
            await one.range(b"a")
        assert etcd.logins == 1
