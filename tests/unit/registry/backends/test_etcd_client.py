"""Calls under a token, and keep-alives."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import grpc
import pytest

from registry.backends.etcd_client import Client
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


async def test_a_request_that_gets_no_answer_costs_the_token() -> None:
    """A wiped etcd keeps requests with a token of before waiting: its raft index has not come as far as theirs."""
    etcd = FakeEtcd(node="secret")
    etcd.leases.add(7)
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.failing = (grpc.StatusCode.DEADLINE_EXCEEDED, "")
        with pytest.raises(Unavailable):
            await one.range(b"a")
        etcd.failing = None
        await one.range(b"a")
        assert etcd.logins == 2
        etcd.failing = (grpc.StatusCode.DEADLINE_EXCEEDED, "")
        with pytest.raises(Unavailable):
            await one.keep_alive(7)
        etcd.failing = None
        await one.keep_alive(7)
        assert etcd.logins == 3


async def test_authentication_that_is_switched_on_is_noticed_beside_a_client_certificate() -> None:
    """Without a token etcd then takes the certificate's name for the account's, and denies."""
    etcd = FakeEtcd()
    async with client(etcd) as one:
        await one.range(b"a")
        etcd.accounts["node"], etcd.refusal = "secret", (grpc.StatusCode.PERMISSION_DENIED, "permission denied")
        await one.range(b"a")
        assert etcd.logins == 1


async def test_a_denial_under_a_certificate_alone_stays_one() -> None:
    etcd = FakeEtcd()
    etcd.failing = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
    async with client(etcd, None) as one:
        with pytest.raises(Denied, match="permission denied"):
            await one.range(b"a")
