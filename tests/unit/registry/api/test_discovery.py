"""The catalogue and health of all hosts."""

import asyncio
from typing import Any

from aiohttp.test_utils import TestClient

from registry import keys
from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from registry.model import Address, Check, CheckResult, Instance, InstanceKey


def instance(service: str = "web", node: str = "n1", **more: Any) -> Instance:
    given = {"inbound": Address(address="10.0.0.1", port=15443), **more}
    return Instance(service=service, node=node, id=f"{service}-{node}", address="10.0.0.1", port=80, **given)


async def get(api: TestClient, path: str) -> Any:
    async with api.get(path) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_instances_of_all_hosts_are_seen(api: TestClient, deps: Deps) -> None:
    await deps.catalog.register(instance(tags=("a",)))
    await deps.catalog.register(instance(node="n2", tags=("a", "b")))
    assert await get(api, "/v1/catalog/services") == {"web": ["a", "b"]}
    assert [s["Node"] for s in await get(api, "/v1/catalog/service/web")] == ["n1", "n2"]
    assert [s["Node"] for s in await get(api, "/v1/catalog/service/web?tag=a&tag=b")] == ["n2"]
    assert [n["Node"] for n in await get(api, "/v1/catalog/nodes")] == ["n1", "n2"]
    assert list((await get(api, "/v1/catalog/node/n2"))["Services"]) == ["web-n2"]


async def test_passing_needs_every_check_and_the_hosts_lease(api: TestClient, deps: Deps) -> None:
    await deps.catalog.register(instance())
    await deps.catalog.register(instance(node="n2"))  # no lease
    ill = Check(check_id="c", ttl=5.0)
    failing = CheckResult(check_id="c", status="critical")
    await deps.catalog.register(instance("db", checks=(ill,), results=(failing,)))
    assert await get(api, "/v1/health/service/db?passing") == []
    assert [e["Node"]["Node"] for e in await get(api, "/v1/health/service/web")] == ["n1", "n2"]
    for query in ("passing", "passing=1", "passing=true"):
        assert [e["Node"]["Node"] for e in await get(api, f"/v1/health/service/web?{query}")] == ["n1"]
    assert len(await get(api, "/v1/health/service/web?passing=false")) == 2
    await deps.catalog.register(instance(state="maintenance", reason="why"))
    assert await get(api, "/v1/health/service/web?passing") == []
    assert [c["Notes"] for c in await get(api, "/v1/health/checks/web")] == ["why"]


async def test_a_host_without_meshd_holds_no_lease_and_its_services_pass_by_their_checks(
    api: TestClient, deps: Deps
) -> None:
    await deps.catalog.register(instance(node="n3", inbound=None))
    assert [e["Node"]["Node"] for e in await get(api, "/v1/health/service/web?passing")] == ["n3"]


async def test_what_is_withdrawn_is_gone_at_once(api: TestClient, deps: Deps) -> None:
    await deps.catalog.register(instance())
    await deps.catalog.withdraw(InstanceKey("web", "n1", "web-n1"))
    assert await get(api, "/v1/catalog/services") == {}
    assert await get(api, "/v1/health/service/web") == []


async def test_states(api: TestClient, deps: Deps) -> None:
    await deps.catalog.register(instance(node="n2"))
    assert [c["Node"] for c in await get(api, "/v1/health/state/critical")] == ["n2"]
    assert [c["Node"] for c in await get(api, "/v1/health/state/any")] == ["n1", "n2"]
    assert [c["CheckID"] for c in await get(api, "/v1/health/node/n2")] == ["serfHealth"]


async def test_node_meta_selects_hosts(api: TestClient, deps: Deps, store: SqliteStore) -> None:
    document = b'{"Name": "n2", "Address": "10.0.0.2", "InboundPort": 1, "Meta": {"zone": "z"}}'
    await store.put(keys.node("n2"), document)
    for node in ("n1", "n2"):
        await deps.catalog.register(instance(node=node))
    assert [n["Node"] for n in await get(api, "/v1/catalog/nodes?node-meta=zone:z")] == ["n2"]
    assert [e["Node"]["Node"] for e in await get(api, "/v1/health/service/web?node-meta=zone:z")] == ["n2"]
    assert await get(api, "/v1/catalog/services?node-meta=zone:x") == {}


async def test_filters_that_are_not_carried_are_refused_not_ignored(api: TestClient) -> None:
    for path in ("/v1/health/service/web", "/v1/catalog/nodes"):
        async with api.get(f"{path}?filter=Service.Port==1") as answer:
            assert (answer.status, (await answer.json())["field"]) == (400, "filter")
    async with api.get("/v1/health/service/a%20b") as answer:
        assert answer.status == 400


async def test_health_waits_for_instances_and_for_leases(api: TestClient, deps: Deps, store: SqliteStore) -> None:
    await deps.catalog.register(instance())

    async def index() -> int:
        async with api.get("/v1/health/service/web") as answer:
            return int(answer.headers["X-Consul-Index"])

    async def wait(after: int) -> Any:
        async with asyncio.timeout(10):
            return await get(api, f"/v1/health/service/web?index={after}&wait=60s")

    start = await index()
    found, _ = await asyncio.gather(wait(start), deps.catalog.register(instance(tags=("new",))))
    assert found[0]["Service"]["Tags"] == ["new"]
    start = await index()
    await store.put("mesh/v1/status/proxies/n1", b"x")  # wakes nobody: the index is the same
    found, _ = await asyncio.gather(wait(start), store.delete(keys.lease("n1")))
    assert found[0]["Checks"][0]["Status"] == "critical"
