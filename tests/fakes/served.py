"""Fixtures: the API in this process, over a store on disk and an agent that behaves. Imported by conftest files."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import TCPConnector
from aiohttp.test_utils import TestClient, TestServer

from registry import keys, values
from registry.api.access import Access
from registry.api.app import build_app
from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from registry.catalog import KvCatalog
from registry.model import Node
from tests.fakes import tls
from tests.fakes.agent import FakeAgent

Serve = Callable[..., Awaitable[TestClient]]


async def ask(client: TestClient, method: str, path: str, body: Any = None, **more: Any) -> tuple[int, Any]:
    """Status and content (decoded JSON, else text) of one request; `body` objects and lists are sent as JSON."""
    data = json.dumps(body) if isinstance(body, dict | list) else body
    async with client.request(method, path, data=data, **more) as answer:
        text = await answer.text()
        is_json = answer.content_type == "application/json" and text
        return answer.status, json.loads(text) if is_json else text


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[SqliteStore]:
    opened = SqliteStore.open(tmp_path / "registry.db")
    yield opened
    await opened.close()


@pytest.fixture
async def deps(store: SqliteStore) -> Deps:
    """An open host `n1` with its lease, so that its node check passes."""
    catalog = KvCatalog(store)
    node = Node(name="n1", address="127.0.0.1", inbound_port=15443, version="1")
    await store.put(keys.node("n1"), values.write(node))
    await store.put(keys.lease("n1"), b"", lease=await store.grant(3600))
    return Deps(
        store=store,
        catalog=catalog,
        agent=FakeAgent(catalog, "n1"),
        access=Access(open=True),
        node="n1",
        random=lambda: 0.0,
    )


@pytest.fixture
async def serve(deps: Deps, tmp_path: Path) -> AsyncIterator[Serve]:
    """`await serve(access=...)`: a client of a running application; keywords replace dependencies.

    `peer="b"`: the application for other hosts over TLS, asked by node b; `peer=""`: by a caller without certificate.
    """
    clients: list[TestClient] = []

    async def start(*, peer: str | None = None, **changes: object) -> TestClient:
        client = _peer(deps, tmp_path, peer, changes) if peer is not None else _local(deps, changes)
        await client.start_server()
        clients.append(client)
        return client

    yield start
    await asyncio.gather(*(client.close() for client in clients))


class _TlsServer(TestServer):
    """A TestServer that speaks TLS when the client starts it."""

    context: object = None

    async def start_server(self, *args: object, **more: object) -> None:
        await super().start_server(ssl=self.context)  # type: ignore[call-arg]  # goes to the site


def _local(deps: Deps, changes: dict[str, object]) -> TestClient:
    return TestClient(TestServer(build_app(replace(deps, **changes))))  # type: ignore[arg-type]  # keywords of each test


def _peer(deps: Deps, directory: Path, node: str, changes: dict[str, object]) -> TestClient:
    own, caller = tls.pair(directory, "localhost"), tls.pair(directory, node or "nobody")
    known = {caller.der: node}
    deps = replace(deps, access=Access(), identify=known.get)
    server = _TlsServer(build_app(replace(deps, **changes), peer=True), host="localhost", scheme="https")  # type: ignore[arg-type]  # keywords of each test
    server.context = tls.server_context(own, [caller])
    context = tls.client_context(own, caller if node else None)
    return TestClient(server, connector=TCPConnector(ssl=context))


@pytest.fixture
async def api(serve: Serve) -> TestClient:
    return await serve()
