"""Fixtures: the API in this process, over a store on disk and an agent that behaves. Imported by conftest files."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient, TestServer

from registry import keys, values
from registry.api.access import Access
from registry.api.app import build_app
from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from registry.catalog import KvCatalog
from registry.model import Node
from tests.fakes.agent import FakeAgent

Serve = Callable[..., Awaitable[TestClient]]


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
async def serve(deps: Deps) -> AsyncIterator[Serve]:
    """`await serve(peer=..., access=...)`: a client of a running application; keywords replace dependencies."""
    clients: list[TestClient] = []

    async def start(*, peer: bool = False, **changes: object) -> TestClient:
        app = build_app(replace(deps, **changes), peer=peer)  # type: ignore[arg-type]
        client = TestClient(TestServer(app))
        await client.start_server()
        clients.append(client)
        return client

    yield start
    await asyncio.gather(*(client.close() for client in clients))


@pytest.fixture
async def api(serve: Serve) -> TestClient:
    return await serve()
