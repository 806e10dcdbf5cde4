"""The routes over real TLS: who may call, what is answered, how errors read."""

import json
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer

from registry.ca import certificate, csr, names, tls
from registry.ca.entitlement import Entitlement
from registry.ca.routes import routes
from tests.fakes.authority import World, serve, world

CSR = csr.make(certificate.new_key())


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path)


@pytest.fixture
async def address(made: World) -> AsyncIterator[str]:
    async with serve(made) as found:
        yield found


async def call(
    address: str, context: ssl.SSLContext, method: str, path: str, body: Any = None
) -> tuple[int, dict[str, Any]]:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context, force_close=True)) as session,
        session.request(
            method, f"https://{address}{path}", data=data, server_hostname=names.peer_name("mesh.local")
        ) as answer,
    ):
        return answer.status, json.loads(await answer.read())


async def test_who_may_call_what(made: World, address: str) -> None:
    """Every route of the authority is listed here; a new one fails this test until it is."""
    anybody, node = {("GET", "/v1/roots"), ("POST", "/v1/join")}, {("POST", "/v1/sign"), ("POST", "/v1/renew")}
    listed = {(route.method, route.path) for route in routes(made.authority(), made.clock.time)}
    assert listed == anybody | node
    bare = tls.pinned_context(made.authority().roots, "mesh.local")
    for method, path in sorted(node):
        status, answer = await call(address, bare, method, path, {"Csr": CSR})
        assert (status, "no client certificate" in answer["error"]) == (403, True)
    for method, path in sorted(anybody):
        status, answer = await call(address, bare, method, path, {"Csr": CSR, "Token": "x"})
        assert "client certificate" not in answer.get("error", "")


async def test_roots(made: World, address: str) -> None:
    status, answer = await call(address, tls.unverified_context(), "GET", "/v1/roots")
    assert status == 200
    assert answer["TrustDomain"] == "mesh.local"
    assert answer["Time"] == made.clock.now
    assert len(answer["Roots"]) == 1


async def test_answers_hold_what_a_host_needs(made: World, address: str) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    bare = tls.pinned_context(made.authority().roots, "mesh.local")
    status, answer = await call(address, bare, "POST", "/v1/join", {"Token": token, "Csr": CSR})
    assert status == 200
    assert answer["Addresses"] == ["127.0.0.1:15444"]
    assert answer["Certificate"].count("BEGIN CERTIFICATE") == 2
    assert answer["Offline"] is False


@pytest.mark.parametrize(
    ("path", "body", "error"),
    [
        ("/v1/join", b"", "body"),
        ("/v1/join", b"[]", "body"),
        ("/v1/join", b'{"Csr": "x", "Token": "y", "Node": "root"}', "unknown field"),
        ("/v1/join", b'{"Csr": "\xff", "Token": "y"}', "body"),
        ("/v1/join", {"Csr": CSR}, "exactly one"),
        ("/v1/join", {"Csr": CSR, "Token": "x", "Certificate": "y"}, "exactly one"),
        ("/v1/sign", {"Csr": CSR}, "Service and Id"),
        ("/v1/sign", {"Csr": CSR, "Service": "api"}, "Service and Id"),
        ("/v1/sign", {"Csr": CSR, "Service": "api", "Id": "1", "Role": "ca"}, "Service and Id"),
        ("/v1/renew", {}, "body"),
    ],
)
async def test_bad_bodies(made: World, address: str, path: str, body: Any, error: str) -> None:
    status, answer = await call(address, tls.client_context(made.layout), "POST", path, body)
    assert status == 400
    assert error in answer["error"]
    assert set(answer) == {"error", "field", "hint", "time"}


async def test_long_bodies_are_cut_off(made: World, address: str) -> None:
    status, answer = await call(address, tls.client_context(made.layout), "POST", "/v1/join", b"x" * 100_000)
    assert status == 413
    assert "longer than" in answer["error"]


async def test_a_store_that_is_away_is_503(made: World, address: str) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    made.store.away = True
    bare = tls.pinned_context(made.authority().roots, "mesh.local")
    status, answer = await call(address, bare, "POST", "/v1/join", {"Token": token, "Csr": CSR})
    assert status == 503
    assert "the store is away" in answer["error"]


async def test_role_and_renewal_for_the_first_host(made: World, address: str) -> None:
    own = tls.client_context(made.layout)
    assert (await call(address, own, "POST", "/v1/sign", {"Csr": CSR, "Role": "registry"}))[0] == 200
    assert (await call(address, own, "POST", "/v1/renew", {"Csr": CSR}))[0] == 200


async def test_without_tls_nobody_is_a_node(made: World) -> None:
    app = web.Application()
    app.add_routes(routes(made.authority(), made.clock.time))
    async with TestClient(TestServer(app)) as plain:
        answer = await plain.post("/v1/renew", json={"Csr": CSR})
        assert answer.status == 403
