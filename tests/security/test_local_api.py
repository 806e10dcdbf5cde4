"""The HTTP API against callers that want more than is theirs (security.md classes 26, 28, 29 and 43)."""

import asyncio
import gzip
import io
import json
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient
from yarl import URL

from registry.api.access import ROUTES, Access, Action, Grant
from registry.api.app import MAX_BODY, build_app, runner
from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from tests.fakes.served import Serve, api, ask, deps, serve, store

__all__ = ["api", "deps", "serve", "store"]

CLOSED = Access(admin_uids=frozenset({4_000_000}))  # nobody who runs this test administers
OPERATOR = {"X-Consul-Token": "good"}
WEB = {"Name": "web", "Port": 80}
Ask = Callable[..., Awaitable[tuple[int, Any]]]


def verify(token: str) -> str | None:
    return "ana" if token == "good" else None


@pytest.fixture
async def closed(serve: Serve) -> TestClient:
    return await serve(access=CLOSED, verify_token=verify)


# ---- class 43: confused deputy -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("PUT", "/v1/kv/mesh/v1/policy/service-intentions/api"),
        ("PUT", "/v1/kv/foo"),
        ("PUT", "/v1/kv/foo?acquire=adf4238a-882b-9ddc-4a9d-5b6758e4159e"),
        ("DELETE", "/v1/kv/foo"),
        ("DELETE", "/v1/kv/?recurse"),
        ("DELETE", "/v1/kv/mesh/v1/?recurse"),
        ("PUT", "/v1/session/create"),
        ("GET", "/v1/kv/mesh/v1/ca/issued/1"),
        ("GET", "/v1/kv/mesh/v1/ca/?recurse"),
    ],
)
async def test_a_local_caller_without_a_token_has_none_of_the_daemons_rights(
    closed: TestClient, store: SqliteStore, method: str, path: str
) -> None:
    await store.put("foo", b"1")
    await store.put("mesh/v1/ca/issued/1", b"1")
    status, found = await ask(closed, method, path, "x" if method == "PUT" else None)
    assert status == 403
    assert found["error"].startswith("Permission denied")
    assert found["hint"]
    assert (await store.get("foo")) is not None


async def test_each_operation_of_a_transaction_is_decided(closed: TestClient, store: SqliteStore) -> None:
    write = [{"KV": {"Verb": "get", "Key": "foo"}}, {"KV": {"Verb": "set", "Key": "foo", "Value": "eA=="}}]
    assert (await ask(closed, "PUT", "/v1/txn", write))[0] == 403
    assert (await ask(closed, "PUT", "/v1/txn", [{"KV": {"Verb": "get-tree", "Key": "mesh/v1/ca/"}}]))[0] == 403
    assert (await ask(closed, "PUT", "/v1/txn", write, headers=OPERATOR))[0] == 409  # there is no foo to get
    assert await store.get("foo") is None


async def test_reading_a_tree_of_a_transaction_does_not_show_the_authoritys_keys(
    closed: TestClient, store: SqliteStore
) -> None:
    await store.put("mesh/v1/ca/issued/1", b"1")
    status, found = await ask(closed, "PUT", "/v1/txn", [{"KV": {"Verb": "get-tree", "Key": "mesh/v1/"}}])
    assert status == 200
    assert not [r for r in found["Results"] or [] if r["KV"]["Key"].startswith("mesh/v1/ca/")]


async def test_a_listing_leaves_out_what_the_caller_may_not_read(closed: TestClient, store: SqliteStore) -> None:
    await store.put("mesh/v1/ca/issued/1", b"1")
    for query in ("recurse", "keys"):
        _, found = await ask(closed, "GET", f"/v1/kv/mesh/v1/?{query}")
        assert found
        assert "mesh/v1/ca/" not in json.dumps(found)
    _, found = await ask(closed, "GET", "/v1/kv/mesh/v1/?keys", headers=OPERATOR)
    assert "mesh/v1/ca/issued/1" in found


async def test_an_operators_token_writes_policy_and_a_wrong_one_is_not_taken_for_none(
    closed: TestClient, store: SqliteStore
) -> None:
    path = "/v1/kv/mesh/v1/config/mesh"
    assert await ask(closed, "PUT", path, "{}", headers=OPERATOR) == (200, True)
    assert await ask(closed, "PUT", path, "{ }", headers={"Authorization": "Bearer good"}) == (200, True)
    for method, target in (("PUT", path), ("GET", "/v1/kv/foo"), ("GET", "/v1/catalog/nodes")):
        status, found = await ask(closed, method, target, headers={"X-Consul-Token": "bad"})
        assert (status, "not valid" in found["error"]) == (403, True)
    assert (await ask(closed, "PUT", path + "?token=good", "x"))[0] == 403  # URLs are logged
    assert (await ask(closed, "PUT", "/v1/kv/mesh/v1/store-id", "x", headers=OPERATOR))[0] == 403


async def test_registration_outside_the_uids_services_is_403(serve: Serve) -> None:
    rules = replace(CLOSED, register=(Grant(frozenset({os.getuid()}), frozenset({"web"})),))
    client = await serve(access=rules)
    assert (await ask(client, "PUT", "/v1/agent/service/register", WEB))[0] == 200
    status, found = await ask(client, "PUT", "/v1/agent/service/register", WEB | {"Name": "api", "ID": "x"})
    assert (status, "may register what" in found["hint"]) == (403, True)


async def test_only_who_may_register_a_service_changes_it(serve: Serve, deps: Deps) -> None:
    root = await serve(access=replace(CLOSED, register=(Grant(frozenset({os.getuid()}), frozenset({"*"})),)))
    body = WEB | {"Check": {"TTL": "5s"}}
    assert (await ask(root, "PUT", "/v1/agent/service/register", body))[0] == 200
    other = await serve(access=replace(CLOSED, register=(Grant(frozenset({os.getuid()}), frozenset({"api"})),)))
    check = {"Name": "c", "TTL": "5s", "ServiceID": "web"}
    for method, path, sent in (
        ("PUT", "/v1/agent/service/register", {"Name": "api", "ID": "web", "Port": 1}),  # takes its id over
        ("PUT", "/v1/agent/service/deregister/web", None),
        ("PUT", "/v1/agent/service/maintenance/web?enable=true", None),
        ("PUT", "/v1/agent/check/pass/service:web", None),
        ("PUT", "/v1/agent/check/update/service:web", {"Status": "passing"}),
        ("PUT", "/v1/agent/check/register", check),
        ("PUT", "/v1/agent/check/deregister/service:web", None),
    ):
        assert (await ask(other, method, path, sent))[0] == 403, path
    assert [i.service for i in deps.agent.services().values()] == ["web"]


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:15500"},
        {"Sec-Fetch-Site": "cross-site"},
    ],
)
async def test_requests_of_web_pages_are_refused(api: TestClient, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/v1/agent/services"), ("PUT", "/v1/kv/a"), ("OPTIONS", "/v1/kv/a"), ("GET", "/none")):
        status, found = await ask(api, method, path, headers=headers)
        assert (status, found["field"]) == (403, "Origin"), (method, path)


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("localhost", 200),
        ("localhost:15500", 200),
        ("LOCALHOST", 200),
        ("127.0.0.1:1", 200),
        ("127.0.0.7", 200),
        ("[::1]:15500", 200),
        ("[::1]", 200),
        ("evil.example", 403),
        ("localhost.evil.example:15500", 403),
        ("10.0.0.1", 403),
        ("169.254.169.254", 403),
        ("", 403),
        ("[::1", 403),
    ],
)
async def test_a_foreign_host_is_refused_so_that_no_name_can_be_rebound(
    api: TestClient, host: str, status: int
) -> None:
    assert (await ask(api, "GET", "/v1/agent/services", headers={"Host": host}))[0] == status


async def test_a_configured_host_name_is_taken(serve: Serve) -> None:
    client = await serve(access=Access(open=True, hosts=frozenset({"registry.internal"})))
    assert (await ask(client, "GET", "/v1/agent/services", headers={"Host": "registry.internal:15500"}))[0] == 200


# ---- the unix socket ---------------------------------------------------------------------------------------------


@pytest.fixture
async def unix(deps: Deps, tmp_path: Path) -> AsyncIterator[Callable[[Access], Awaitable[aiohttp.ClientSession]]]:
    runners, sessions = [], []

    async def start(access: Access) -> aiohttp.ClientSession:
        served = runner(build_app(replace(deps, access=access)))
        runners.append(served)
        await served.setup()
        path = f"/tmp/meshd-test-{os.getpid()}-{len(runners)}.sock"
        await web.UnixSite(served, path).start()
        session = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(path))
        sessions.append((session, path))
        return session

    yield start
    for session, path in sessions:
        await session.close()
        os.unlink(path)
    await asyncio.gather(*(served.cleanup() for served in runners))


async def test_the_kernel_says_who_administers_through_the_unix_socket(unix: Any) -> None:
    cases = (
        (Access(admin_uids=frozenset({os.getuid()})), 200),
        (Access(admin_uids=frozenset(), admin_gids=frozenset({os.getgid()})), 200),
        (Access(admin_uids=frozenset({4_000_000}), admin_gids=frozenset({4_000_000})), 403),
    )
    for access, status in cases:
        session = await unix(access)
        # neither Host nor Origin mean anything here: no browser reaches a unix socket
        async with session.put(
            "/v1/kv/mesh/v1/config/mesh", data=b"{}", headers={"Origin": "x", "Host": "y"}
        ) as answer:
            assert answer.status == status


# ---- class 28: keys ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "a/../b",
        "../b",
        "..",
        "a/./b",
        "a//b",
        "/a",
        "a/%2e%2e/b",
        "a/%2E./b",
        "a/..%2fb",
        "mesh/v1/services/web/b/..%2f..%2f..%2fconfig/mesh",
        "a%2F%2Fb",
        "a%00b",
        "a%20b",
        "a%0d%0ab",
        "a%5c..%5cb",
        "a%25",
        "%2e%2e",
        "a*",
        "mesh/v1/services/*",
        "\u00e4",
        "a" * 513,
    ],
)
async def test_key_traversal_cve_2025_11392(api: TestClient, store: SqliteStore, path: str) -> None:
    """The path as sent: no client may tidy it up first."""
    before = (await store.list("")).entries
    url = str(api.make_url("/v1/kv/")) + path

    target = URL(url, encoded=path.isascii())
    for method in ("PUT", "GET", "DELETE"):
        async with aiohttp.request(method, target, data=b"x" if method == "PUT" else None) as answer:
            # a line end is no part of any path: there is no such route
            assert answer.status == (404 if "%0a" in path else 400), (method, await answer.text())
    assert (await store.list("")).entries == before


# ---- class 26: bodies --------------------------------------------------------------------------------------------


async def test_a_packed_body_is_refused_before_it_is_unpacked_cve_2025_69223(
    api: TestClient, store: SqliteStore
) -> None:
    bomb = gzip.compress(b"a" * 50_000_000)
    for method, path in (("PUT", "/v1/kv/bomb"), ("PUT", "/v1/agent/service/register"), ("PUT", "/v1/txn")):
        async with api.request(method, path, data=bomb, headers={"Content-Encoding": "gzip"}) as answer:
            assert answer.status == 415
    assert await store.get("bomb") is None


async def test_a_body_has_a_limit(api: TestClient) -> None:
    for path in ("/v1/txn", "/v1/agent/service/register", "/v1/session/create"):
        try:
            status, _ = await ask(api, "PUT", path, io.BytesIO(b"a" * (MAX_BODY + 1)))
        except aiohttp.ClientConnectionError:
            continue  # refused while we were sending
        assert status == 413


# ---- every route -------------------------------------------------------------------------------------------------


async def test_every_route_refuses_whom_the_table_refuses(serve: Serve, deps: Deps) -> None:
    """No handler forgets to ask: a caller without rights gets 403 from each route that is not open to all."""
    client = await serve(access=CLOSED)
    bodies = {
        "PUT /v1/agent/service/register": WEB,
        "PUT /v1/agent/check/register": {"Name": "c", "TTL": "5s", "ServiceID": "web"},
        "PUT /v1/txn": [{"KV": {"Verb": "set", "Key": "mesh/v1/ca/x"}}],
    }
    for route in ROUTES:
        path = route.path.replace("{key:.*}", "mesh/v1/ca/x").replace("{id}", "x").replace("{name}", "web")
        path = path.replace("{node}", "n1").replace("{state}", "any")
        status, found = await ask(client, route.method, path, bodies.get(route.name))
        free = (Action.STATUS, Action.CATALOG, Action.AGENT_READ, Action.SESSION_READ)
        if route.action in free:
            assert status in (200, 404), (route.name, found)
        else:
            assert status == 403, (route.name, found)


async def test_no_route_is_outside_the_table(deps: Deps) -> None:
    for peer in (False, True):
        served = {
            f"{route.method} {route.resource.canonical if route.resource else ''}"
            for route in build_app(deps, peer=peer).router.routes()
        }
        assert served == {row.name.replace("{key:.*}", "{key}") for row in ROUTES if row.peer or not peer}
