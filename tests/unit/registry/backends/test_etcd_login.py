"""Tokens: fetched once, again when refused, never guessed."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from registry.backends.etcd_links import Links
from registry.backends.etcd_login import Login
from registry.errors import Denied, Unavailable
from tests.fakes.etcd import FakeEtcd


@asynccontextmanager
async def login(etcd: FakeEtcd, secret: Callable[[], str | None]) -> AsyncIterator[Login]:
    async with etcd.serve():
        links = Links([etcd.address])
        yield Login(links, secret)
        await links.close()


async def test_one_login_serves_all_who_ask_at_once() -> None:
    etcd = FakeEtcd(node="secret")
    async with login(etcd, lambda: "node:secret\n") as one:
        found = await asyncio.gather(*(one.metadata() for _ in range(5)))
        assert set(found) == {(("token", "token-1"),)}
        assert etcd.logins == 1


async def test_a_refused_token_is_renewed_once_for_all_who_were_refused() -> None:
    etcd = FakeEtcd(node="secret")
    async with login(etcd, lambda: "node:secret") as one:
        await one.metadata()
        assert all(await asyncio.gather(*(one.renew("token-1") for _ in range(3))))
        assert (one.token, etcd.logins) == ("token-2", 2)


async def test_a_password_with_a_colon_is_one_password() -> None:
    async with login(FakeEtcd(node="a:b"), lambda: "node:a:b") as one:
        assert await one.metadata() == (("token", "token-1"),)


async def test_a_wrong_password_is_denied() -> None:
    async with login(FakeEtcd(node="secret"), lambda: "node:wrong") as one:
        with pytest.raises(Denied, match="authentication failed"):
            await one.metadata()


async def test_the_file_is_read_again_for_each_login() -> None:
    secrets = ["node:old"]
    etcd = FakeEtcd(node="old")
    async with login(etcd, lambda: secrets[0]) as one:
        await one.metadata()
        etcd.accounts["node"], secrets[0] = "new", "node:new"
        assert await one.renew("token-1")
        assert one.token == "token-2"


async def test_without_a_secret_requests_carry_nothing_and_a_refusal_is_final() -> None:
    async with login(FakeEtcd(node="secret"), lambda: None) as one:
        assert await one.metadata() == ()
        assert not await one.renew(None)


async def test_a_server_without_authentication_needs_none() -> None:
    etcd = FakeEtcd()
    async with login(etcd, lambda: "node:secret") as one:
        assert await one.metadata() == ()
        etcd.accounts["node"] = "secret"  # switched on later
        assert await one.renew(None)
        assert await one.metadata() == (("token", "token-1"),)


async def test_a_token_made_elsewhere_is_sent_as_it_is() -> None:
    tokens = ["made-elsewhere"]
    async with login(FakeEtcd(node="secret"), lambda: tokens[0]) as one:
        assert await one.metadata() == (("token", "made-elsewhere"),)
        assert not await one.renew("made-elsewhere")
        tokens[0] = "a-newer-one"
        assert await one.renew("made-elsewhere")
        assert await one.metadata() == (("token", "a-newer-one"),)


async def test_a_file_that_cannot_be_read_is_no_denial() -> None:
    def missing() -> str:
        raise OSError("no such file")

    async with login(FakeEtcd(node="secret"), missing) as one:
        with pytest.raises(Unavailable, match="no such file"):
            await one.metadata()


async def test_after_a_doubt_every_caller_logs_in_anew() -> None:
    etcd = FakeEtcd(node="secret", operator="other")
    async with etcd.serve():
        links = Links([etcd.address])
        host, operator = Login(links, lambda: "node:secret"), Login(links, lambda: "operator:other")
        for one in (host, operator):
            await one.metadata()
        links.doubt()
        for one in (host, operator):
            await one.metadata()
            await one.metadata()
        await links.close()
    assert (host.logins, operator.logins) == (2, 2)
