"""The application: one mapping of what goes wrong, and how it is served."""

from collections.abc import Mapping

import aiohttp
import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient

from registry.api.app import build_app, runner
from registry.api.context import Deps
from registry.errors import Corrupt
from registry.model import Instance
from tests.fakes.agent import FakeAgent
from tests.fakes.served import Serve


async def test_unknown_paths_and_methods_are_errors_with_a_body(api: TestClient) -> None:
    async with api.get("/v1/none") as answer:
        assert (answer.status, (await answer.json())["error"]) == (404, "GET /v1/none: Not Found")
    async with api.post("/v1/kv/a", data=b"") as answer:
        assert answer.status == 405
        assert set(answer.headers["Allow"].split(",")) == {"GET", "PUT", "DELETE"}
    async with api.get("/v1/kv/a?dc=dc2") as answer:
        assert (answer.status, (await answer.json())["field"]) == (500, "dc")
    async with api.head("/v1/kv/a") as answer:
        assert answer.status == 405


class Broken(FakeAgent):
    """Fails in ways that nobody foresaw, and in one that somebody did."""

    failure: Exception = RuntimeError("a bug")

    def services(self) -> Mapping[str, Instance]:
        raise self.failure


async def test_a_bug_is_a_500_that_says_nothing_and_a_log_that_says_all(
    serve: Serve, deps: Deps, caplog: pytest.LogCaptureFixture
) -> None:
    api = await serve(agent=Broken(deps.catalog, "n1"))
    async with api.get("/v1/agent/services") as answer:
        assert answer.status == 500
        assert "a bug" not in await answer.text()
    assert "a bug" in caplog.text


async def test_a_damaged_store_says_so(serve: Serve, deps: Deps) -> None:
    agent = Broken(deps.catalog, "n1")
    agent.failure = Corrupt("registry.db: damaged")
    api = await serve(agent=agent)
    async with api.get("/v1/agent/services") as answer:
        assert (answer.status, (await answer.json())["error"]) == (500, "registry.db: damaged")


async def test_routes_of_other_rooms_are_served_beside_ours(deps: Deps) -> None:
    async def roots(_request: web.Request) -> web.Response:
        return web.Response(text="pem")

    app = build_app(deps)
    app.router.add_get("/v1/roots", roots)
    served = runner(app)
    await served.setup()
    try:
        await web.TCPSite(served, "127.0.0.1", 0).start()
        port = served.addresses[0][1]
        async with aiohttp.request("GET", f"http://127.0.0.1:{port}/v1/roots") as answer:
            assert await answer.text() == "pem"
    finally:
        await served.cleanup()
