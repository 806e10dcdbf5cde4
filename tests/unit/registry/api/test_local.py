"""The agent's routes: this host's own instances."""

import json
from typing import Any

from aiohttp.test_utils import TestClient

from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from registry.errors import Unavailable
from tests.fakes.agent import FakeAgent
from tests.fakes.served import Serve

REGISTER = "/v1/agent/service/register"
WEB = {"Name": "web", "ID": "web-1", "Port": 80, "Check": {"TTL": "30s"}}


async def put(api: TestClient, path: str, body: Any = None) -> tuple[int, Any, int]:
    data = json.dumps(body) if body is not None else None
    async with api.put(path, data=data) as answer:
        text = await answer.text()
        return answer.status, json.loads(text) if text else None, int(answer.headers.get("X-Consul-Index", "0"))


async def test_the_answer_of_a_registration_is_empty_and_says_when_it_is_visible(
    api: TestClient, store: SqliteStore
) -> None:
    status, body, index = await put(api, REGISTER, WEB)
    assert (status, body) == (200, None)
    entry = await store.get("mesh/v1/services/web/n1/web-1")
    assert entry is not None
    assert entry.version == index


async def test_replace_existing_checks(api: TestClient, deps: Deps) -> None:
    await put(api, REGISTER, WEB)
    more = WEB | {"Check": {"TTL": "30s", "CheckID": "more"}}
    await put(api, REGISTER, more)
    assert set(deps.agent.checks()) == {"service:web-1", "more"}
    await put(api, f"{REGISTER}?replace-existing-checks=true", more)
    assert set(deps.agent.checks()) == {"more"}


async def test_a_refused_registration_names_field_and_hint(api: TestClient, deps: Deps) -> None:
    for body, field in ((WEB | {"Port": "80"}, "Port"), (WEB | {"Chek": {}}, "Chek"), ({}, "Name")):
        status, found, _ = await put(api, REGISTER, body)
        assert (status, found["field"]) == (400, field)
        assert found["hint"]
    assert deps.agent.services() == {}


async def test_own_addresses_may_be_probed(serve: Serve) -> None:
    api = await serve(own_addresses=frozenset({"10.0.0.5"}))
    for host, status in (("10.0.0.5", 200), ("10.0.0.6", 400)):
        body = WEB | {"Check": {"HTTP": f"http://{host}/", "Interval": "5s"}}
        assert (await put(api, REGISTER, body))[0] == status


async def test_ttl_checks_are_reported(api: TestClient, deps: Deps) -> None:
    await put(api, REGISTER, WEB)
    for verb, status in (("pass", "passing"), ("warn", "warning"), ("fail", "critical")):
        assert (await put(api, f"/v1/agent/check/{verb}/service:web-1?note=n"))[0] == 200
        result = deps.agent.checks()["service:web-1"].result
        assert (result.status, result.output) == (status, "n")
    update = "/v1/agent/check/update/service:web-1"
    await put(api, update, {"Status": "passing", "Output": "x" * 5000})
    assert len(deps.agent.checks()["service:web-1"].result.output) == 4096
    assert (await put(api, update, {"Status": "pass"}))[1]["field"] == "Status"
    assert (await put(api, update, {"State": "passing"}))[1]["field"] == "State"
    assert (await put(api, "/v1/agent/check/pass/none"))[0] == 404


async def test_maintenance(api: TestClient, deps: Deps) -> None:
    await put(api, REGISTER, WEB)
    path = "/v1/agent/service/maintenance/web-1"
    assert (await put(api, f"{path}?enable=true&reason=why"))[0] == 200
    assert (deps.agent.services()["web-1"].state, deps.agent.services()["web-1"].reason) == ("maintenance", "why")
    assert (await put(api, f"{path}?enable=False"))[0] == 200  # as Python's clients write it
    assert deps.agent.services()["web-1"].state == "active"
    for query in ("", "?enable=perhaps", "?enable=true&reason=a%0d%0ab"):
        assert (await put(api, path + query))[0] == 400
    assert (await put(api, "/v1/agent/service/maintenance/none?enable=true"))[0] == 404


async def test_checks_come_and_go_on_their_own(api: TestClient, deps: Deps) -> None:
    await put(api, REGISTER, WEB)
    body = {"Name": "more", "TTL": "5s", "ServiceID": "web-1"}
    assert (await put(api, "/v1/agent/check/register", body))[0] == 200
    assert "more" in deps.agent.checks()
    assert (await put(api, "/v1/agent/check/register", body | {"ServiceID": "none"}))[0] == 404
    assert (await put(api, "/v1/agent/check/register", {"Name": "x"}))[0] == 400
    for _ in range(2):
        assert (await put(api, "/v1/agent/check/deregister/more"))[0] == 200
    assert "more" not in deps.agent.checks()


async def test_deregistering_twice_is_no_error(api: TestClient, deps: Deps) -> None:
    await put(api, REGISTER, WEB)
    for _ in range(2):
        assert (await put(api, "/v1/agent/service/deregister/web-1"))[0] == 200
    assert deps.agent.services() == {}


async def test_an_instance_has_a_hash_of_its_content(api: TestClient) -> None:
    await put(api, REGISTER, WEB)
    async with api.get("/v1/agent/service/web-1") as answer:
        one = (await answer.json())["ContentHash"]
        assert answer.headers["X-Consul-ContentHash"] == one
    await put(api, REGISTER, WEB | {"Port": 81})
    async with api.get("/v1/agent/service/web-1") as answer:
        assert (await answer.json())["ContentHash"] != one


async def test_health_by_name_is_the_worst_of_its_instances(api: TestClient) -> None:
    await put(api, REGISTER, WEB)
    await put(api, REGISTER, WEB | {"ID": "web-2"})
    await put(api, "/v1/agent/check/pass/service:web-1")
    for verb, code in (("pass", 200), ("warn", 429), ("fail", 503)):
        await put(api, f"/v1/agent/check/{verb}/service:web-2")
        async with api.get("/v1/agent/health/service/name/web?format=text") as answer:
            assert answer.status == code
            assert (await answer.text()) == answer.headers["X-Consul-Reason"]


class Down(FakeAgent):
    """Its registry does not answer."""

    async def register(self, registration: Any, replace_checks: bool) -> int:
        raise Unavailable("http://10.0.0.1:15444: no answer in time")


async def test_a_registry_that_does_not_answer_is_503(serve: Serve, deps: Deps) -> None:
    api = await serve(agent=Down(deps.catalog, "n1"))
    status, found, _ = await put(api, REGISTER, WEB)
    assert status == 503
    assert "no answer in time" in found["error"]
    assert found["hint"]
