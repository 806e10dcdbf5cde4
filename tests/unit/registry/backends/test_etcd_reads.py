"""Reads without a leader; on real clusters: tests/contract/test_no_leader.py."""

from collections.abc import AsyncIterator

import grpc
import pytest
import pytest_asyncio

from registry import keys
from registry.backends.etcd_client import Client
from registry.backends.etcd_links import Links
from registry.backends.etcd_reads import Reads
from registry.errors import Unavailable
from registry.store import Behind
from tests.fakes.clock import Clock
from tests.fakes.etcd import FakeEtcd

SPAN = (b"mesh/v1/", b"mesh/v10")


@pytest_asyncio.fixture
async def etcd() -> AsyncIterator[FakeEtcd]:
    async with FakeEtcd().serve() as serving:
        yield serving


@pytest_asyncio.fixture
async def client(etcd: FakeEtcd) -> AsyncIterator[Client]:
    links = Links([etcd.address])
    yield Client(links, lambda: None)
    await links.close()


async def test_without_a_leader_who_is_there_is_read_and_its_age_said(etcd: FakeEtcd, client: Client) -> None:
    clock = Clock()
    reads = Reads(clock.time)
    await reads.range(client, keys.POLICY, SPAN, 0)
    assert reads.behind() == Behind(0.0, True)
    etcd.led = False
    clock.now += 7
    for name in (keys.SERVICES, keys.instance("api", "a", "1"), keys.lease("a"), keys.NODES, keys.STATUS):
        assert (await reads.range(client, name, SPAN, 0)).header.revision == etcd.revision
    assert reads.behind() == Behind(7.0, False)
    etcd.led = True
    await reads.range(client, keys.SERVICES, SPAN, 0)
    assert reads.behind() == Behind(0.0, True)


@pytest.mark.parametrize("name", [keys.POLICY, keys.CONFIG, keys.CA_ROOTS, keys.REVOCATIONS, keys.STORE_ID, ""])
async def test_policies_and_trust_are_never_read_without_a_leader(etcd: FakeEtcd, client: Client, name: str) -> None:
    etcd.led = False
    reads = Reads(Clock().time)
    with pytest.raises(Unavailable, match="no leader"):
        await reads.range(client, name, SPAN, 0)
    assert not reads.behind().led


@pytest.mark.parametrize("watched", [0, 12])
async def test_nothing_older_than_was_seen_is_told(etcd: FakeEtcd, client: Client, watched: int) -> None:
    reads = Reads(Clock().time)
    if not watched:
        etcd.revision = 12
        await reads.range(client, keys.SERVICES, SPAN, 0)
    etcd.led, etcd.revision = False, 11
    with pytest.raises(Unavailable, match="no leader"):
        await reads.range(client, keys.SERVICES, SPAN, watched)


async def test_a_server_that_does_not_answer_is_not_asked_twice(etcd: FakeEtcd, client: Client) -> None:
    etcd.failing = (grpc.StatusCode.UNAVAILABLE, "etcdserver: server stopped")
    reads = Reads(Clock().time)
    with pytest.raises(Unavailable):
        await reads.range(client, keys.SERVICES, SPAN, 0)
    assert (etcd.asked, reads.behind().led) == (1, True)
