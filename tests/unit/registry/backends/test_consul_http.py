"""The transport below python-consul2's wrappers."""

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from consul import base

from registry.backends.consul import ConsulStore
from registry.backends.consul_http import Api, Call, Link, Links, Transport, check
from registry.errors import Denied, NotFound, TooLarge, Unavailable
from tests.consul_agent import free_ports
from tests.fakes import tls
from tests.fakes.running import running

Script = Callable[[web.Request], Awaitable[web.StreamResponse]]
Start = Callable[..., Awaitable[str]]


@pytest.fixture
async def start(tmp_path: Path) -> AsyncIterator[Start]:
    """`await start(script)`: the address of a server that answers every request with `script`."""
    runners: list[web.AppRunner] = []

    async def begin(script: Script, *, path: str = "", context: Any = None) -> str:
        app = web.Application()
        app.router.add_route("*", "/{path:.*}", script)
        runner = web.AppRunner(app, handler_cancellation=True, shutdown_timeout=0.1)
        runners.append(runner)
        await runner.setup()
        if path:
            await web.UnixSite(runner, path).start()
            return f"unix://{path}"
        await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=context).start()
        return f"{'https' if context else 'http'}://127.0.0.1:{runner.addresses[0][1]}"

    yield begin
    for runner in runners:
        await runner.cleanup()


async def ok(_request: web.Request) -> web.StreamResponse:
    return web.json_response(True, headers={"X-Consul-Index": "7"})


def get(path: str = "/v1/kv/a", *params: tuple[str, str]) -> Call:
    return Call("GET", path, params, b"", {})


def put(path: str = "/v1/kv/a") -> Call:
    return Call("PUT", path, (), b"x", {})


def dead() -> str:
    return f"http://127.0.0.1:{free_ports('127.0.0.1', 1)[0]}"


async def test_an_address_that_does_not_answer_is_passed_over_and_then_left(start: Start) -> None:
    links = Links([dead(), await start(ok)])
    try:
        assert (await links.send(get())).code == 200
        assert (await links.send(put())).code == 200  # nothing was sent to the dead one
        assert links._first == 1
    finally:
        await links.close()


@pytest.mark.parametrize(("method", "times"), [("GET", 2), ("PUT", 1)])
async def test_only_a_read_is_repeated_when_a_kept_connection_breaks(start: Start, method: str, times: int) -> None:
    seen: list[str] = []

    async def cut(request: web.Request) -> web.StreamResponse:
        if request.path == "/v1/first":
            return await ok(request)
        seen.append(request.method)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    links = Links([await start(cut)])
    try:
        await links.send(get("/v1/first"))
        with pytest.raises(Unavailable):
            await links.send(Call(method, "/v1/kv/a", (), b"", {}))
    finally:
        await links.close()
    assert seen == [method] * times


async def test_a_write_that_may_have_arrived_is_not_sent_to_another_address(start: Start) -> None:
    seen: list[str] = []

    async def cut(request: web.Request) -> web.StreamResponse:
        seen.append("first")
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    async def second(request: web.Request) -> web.StreamResponse:
        seen.append("second")
        return await ok(request)

    links = Links([await start(cut), await start(second)])
    try:
        with pytest.raises(Unavailable, match="may have been applied"):
            await links.send(put())
        assert set(seen) == {"first"}
        assert (await links.send(get())).code == 200  # a read is
    finally:
        await links.close()


async def test_a_server_without_a_leader_is_passed_over_for_reads(start: Start) -> None:
    async def leaderless(_request: web.Request) -> web.StreamResponse:
        return web.Response(status=500, text="No cluster leader")

    alone = await start(leaderless)
    links = Links([alone, await start(ok)])
    try:
        assert (await links.send(get())).code == 200
    finally:
        await links.close()
    links = Links([alone])
    try:
        assert (await links.send(get())).code == 500
    finally:
        await links.close()


async def test_all_addresses_are_named_when_none_answers() -> None:
    addresses = [dead(), dead()]
    links = Links(addresses)
    try:
        with pytest.raises(Unavailable) as caught:
            await links.send(get())
        assert all(address in str(caught.value) for address in addresses)
    finally:
        await links.close()


async def test_a_token_travels_in_a_header_and_no_redirect_takes_it_elsewhere(
    start: Start, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONSUL_HTTP_ADDR", "evil.example:1")
    monkeypatch.setenv("CONSUL_HTTP_TOKEN", "from-the-environment")
    seen: list[tuple[str, str | None]] = []

    async def elsewhere(request: web.Request) -> web.StreamResponse:
        seen.append((str(request.rel_url), request.headers.get("X-Consul-Token")))
        raise web.HTTPFound("/elsewhere")

    token: list[str | None] = ["one"]
    links = Links([await start(elsewhere)])
    api = Api(Transport(links, lambda: token[0]))
    try:
        code = await api.http.get(lambda answer: answer.code, "/v1/a b", params=[("token", "two"), ("x", True)])
        assert code == 302
        await api.http.post(lambda _: None, "/v1/a")
        token[0] = None
        await api.http.delete(lambda _: None, "/v1/a", params={"recurse": "1"})
    finally:
        await links.close()
    assert seen == [("/v1/a%20b?x=1", "two"), ("/v1/a", "one"), ("/v1/a?recurse=1", None)]


async def test_a_unix_socket(start: Start) -> None:
    path = f"/tmp/meshd-test-{os.getpid()}-http.sock"
    links = Links([await start(ok, path=path)])
    try:
        assert (await links.send(get())).code == 200
    finally:
        await links.close()
        os.unlink(path)


async def test_a_private_authority_a_client_certificate_and_the_name_of_the_server(
    start: Start, tmp_path: Path
) -> None:
    server, client, stranger = (tls.pair(tmp_path, name) for name in ("peer.mesh.local", "b", "stranger"))

    async def who(request: web.Request) -> web.StreamResponse:
        der = request.get_extra_info("ssl_object").getpeercert(binary_form=True)
        return web.Response(status=200 if der == client.der else 401)

    address = await start(who, context=tls.server_context(server, [client]))
    for context, name, works in (
        (tls.client_context(server, client), "peer.mesh.local", True),
        (tls.client_context(server, client), None, False),  # it is not called 127.0.0.1
        (tls.client_context(server, client), "peer.evil.local", False),
        (tls.client_context(stranger, client), "peer.mesh.local", False),
    ):
        links = Links([address], context, name)
        try:
            if works:
                assert (await links.send(get())).code == 200
            else:
                with pytest.raises(Unavailable, match=r"(?i)certificate"):
                    await links.send(get())
        finally:
            await links.close()


@pytest.mark.parametrize(
    ("params", "seconds"),
    [((), 10.0), ((("index", "1"),), 328.75), ((("index", "1"), ("wait", "60s")), 73.75), ((("wait", "60s"),), 10.0)],
)
def test_the_deadline_of_a_request_leaves_the_server_its_wait_and_its_jitter(
    params: tuple[tuple[str, str], ...], seconds: float
) -> None:
    assert get("/v1/kv/a", *params).deadline == seconds


@pytest.mark.parametrize("address", ["127.0.0.1:8500", "ftp://a", "http://", "unix://", ""])
def test_an_address_without_scheme_or_host_is_refused(address: str) -> None:
    with pytest.raises(ValueError, match="is wanted"):
        Link(address, None, None)


def test_no_address_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        Links([])


async def test_a_closed_client_sends_nothing(start: Start) -> None:
    links = Links([await start(ok)])
    await links.close()
    with pytest.raises(Unavailable, match="closed"):
        await links.send(get())


@pytest.mark.parametrize(
    ("code", "text", "error"),
    [
        (400, "Invalid key", Denied),
        (403, "Permission denied", Denied),
        (404, "", NotFound),
        (413, "too large", TooLarge),
        (500, 'invalid session "x"', NotFound),
        (500, "Invalid Session TTL '1'", TooLarge),
        (500, "No cluster leader", Unavailable),
        (429, "slow down", Unavailable),
        (503, "", Unavailable),
    ],
)
def test_each_status_is_the_error_that_a_caller_can_act_on(code: int, text: str, error: type[Exception]) -> None:
    with pytest.raises(error, match="put a"):
        check(base.Response(code, {}, text, text.encode()), "put a")


def test_a_lost_comparison_is_no_error_of_the_transport() -> None:
    check(base.Response(409, {}, "", b""), "txn")
    check(base.Response(200, {}, "", b""), "txn")


async def test_cancelling_a_blocking_read_frees_its_connection_here_and_there(start: Start) -> None:
    begun, ended = asyncio.Event(), asyncio.Event()

    async def block(request: web.Request) -> web.StreamResponse:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()
        return web.Response()

    store = ConsulStore([await start(block)])
    try:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await store.wait_index("a/", 7)
        async with asyncio.timeout(10):
            await begun.wait()
            await ended.wait()
    finally:
        await store.close()


async def test_a_server_that_falls_silent_under_a_blocking_read_is_passed_over(start: Start) -> None:
    """Frozen: connections are taken, nothing is answered."""

    async def frozen(request: web.Request) -> web.StreamResponse:
        await asyncio.Event().wait()
        raise AssertionError

    links = Links([await start(frozen), await start(ok)])
    links._links[0].heart._every = links._links[0].heart._silence = 0.02
    async with running(links.run()), asyncio.timeout(10):
        answer = await links.send(get("/v1/kv/a", ("index", "7"), ("wait", "60s")))
    await links.close()
    assert answer.headers["X-Consul-Index"] == "7"


async def test_a_closed_client_asks_nothing(start: Start) -> None:
    link = Link(await start(ok), None, None)
    await link.send(get())
    await link.close()
    with pytest.raises(aiohttp.ClientError):
        await link._ask(1.0)
