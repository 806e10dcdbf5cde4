"""Channels: addresses, fail-over, TLS files, back-off."""

import grpc
import pytest

from registry.backends.etcd_client import RANGE, TXN
from registry.backends.etcd_links import OPTIONS, Backoff, Links, Refused, Tls, _target, secure
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied, Unavailable
from tests.fakes.etcd import FakeEtcd
from tests.mesh.cluster import free_port

READ = pb.RangeRequest(key=b"a")


def nobody() -> str:
    return f"127.0.0.1:{free_port('127.0.0.1')}"


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("10.0.0.1:2379", "10.0.0.1:2379"),
        ("etcd.example:1", "etcd.example:1"),
        ("http://etcd", "etcd:2379"),
        ("https://[::1]:2379", "[::1]:2379"),
        ("https://a:1/", "a:1"),
    ],
)
def test_addresses(address: str, target: str) -> None:
    assert _target(address) == target


@pytest.mark.parametrize("address", ["", "ftp://a:1", "unix:///run/etcd", "https://a:1/path", "a:port"])
def test_what_is_no_address_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match=r"wanted|Port"):
        _target(address)


def test_an_address_asks_for_tls_by_its_scheme() -> None:
    assert secure(["a:1", "https://b:1"])
    assert not secure(["a:1", "http://b:1"])


def test_a_store_needs_an_address() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Links([])


def test_pings_are_not_so_frequent_that_etcd_hangs_up_and_a_frozen_server_is_noticed_within_10_s() -> None:
    options = dict(OPTIONS)
    assert options["grpc.keepalive_time_ms"] > 5000
    assert options["grpc.keepalive_permit_without_calls"] == 0
    assert options["grpc.keepalive_time_ms"] + options["grpc.http2.ping_timeout_ms"] < 10_000


def test_pauses_grow_to_a_bound_and_are_jittered_fully() -> None:
    whole, none = Backoff(jitter=lambda: 1.0), Backoff(jitter=lambda: 0.0)
    assert [whole.after(n) for n in (0, 1, 3)] == [0.1, 0.2, 0.8]
    assert whole.after(1000) == 10.0
    assert none.after(5) == 0.0


async def test_the_member_that_answered_last_is_asked_first() -> None:
    async with FakeEtcd().serve() as etcd:
        links = Links([nobody(), etcd.address])
        for _ in range(2):
            assert (await links.call(RANGE, READ)).header.revision == etcd.revision
        assert links.member == etcd.address
        await links.close()


async def test_a_write_goes_on_only_when_it_cannot_have_been_applied() -> None:
    async with FakeEtcd().serve() as first, FakeEtcd().serve() as second:
        links = Links([first.address, second.address])
        first.failing = (grpc.StatusCode.UNAVAILABLE, "etcdserver: request timed out")
        with pytest.raises(Unavailable, match="may have been applied"):
            await links.call(TXN, pb.TxnRequest())
        assert second.asked == 0
        second.failing = (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        first.failing = None
        assert (await links.call(TXN, pb.TxnRequest())).succeeded  # the second is asked first by now
        assert (first.asked, second.asked) == (2, 1)
        await links.close()


async def test_when_nobody_answers_every_member_is_named() -> None:
    addresses = [nobody(), nobody()]
    links = Links(addresses)
    with pytest.raises(Unavailable) as caught:
        await links.call(RANGE, READ)
    assert all(address in str(caught.value) for address in addresses)
    await links.close()
    with pytest.raises(Unavailable, match="closed"):
        await links.call(RANGE, READ)


async def test_a_refusal_is_the_same_everywhere_and_asked_once() -> None:
    async with FakeEtcd().serve() as first, FakeEtcd(a="1").serve() as second:
        links = Links([first.address, second.address])
        first.failing = (grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        with pytest.raises(Denied, match=f"Range at {first.address}: etcdserver: permission denied"):
            await links.call(RANGE, READ, (("token", "token-1"),))
        with pytest.raises(Refused):  # nobody has logged in yet: that may help
            await links.call(RANGE, READ)
        assert second.asked == 0
        links.next_member()
        with pytest.raises(Refused):
            await links.call(RANGE, READ)
        await links.close()


async def test_tls_files_that_change_replace_the_connections() -> None:
    held: list[Tls | None] = [None, None, Tls(b"roots")]
    links = Links(["a:1"], lambda: held.pop(0))
    first = await links.channel("a:1")
    assert not await links.reload()
    assert await links.channel("a:1") is first
    assert await links.reload()
    assert await links.channel("a:1") is not first
    await links.retire()
    await links.close()


async def test_tls_files_that_cannot_be_read_keep_what_was_read_before() -> None:
    answers: list[Tls | Exception] = [OSError("gone"), Tls(b"roots"), OSError("gone")]

    def tls() -> Tls:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    links = Links(["a:1"], tls)
    with pytest.raises(Unavailable, match="gone"):
        await links.channel("a:1")
    first = await links.channel("a:1")
    assert not await links.reload()
    assert await links.channel("a:1") is first
    await links.close()
