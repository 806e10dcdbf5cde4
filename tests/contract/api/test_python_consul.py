"""The unmodified python-consul2, its own synchronous transport, as a foreign client of the embedded registry."""

import asyncio
import threading
import warnings
from collections.abc import Callable, Iterator
from typing import Any

import consul
import pytest
from aiohttp.test_utils import TestClient

Run = Callable[..., Any]


@pytest.fixture
def client(api: TestClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[consul.Consul]:
    for name in ("CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the package warns of its own legacy parts
        made = consul.Consul(host="127.0.0.1", port=api.port)
    yield made
    made.http.session.close()


@pytest.fixture
def run() -> Run:
    """Calls of a blocking client, beside the server's loop."""
    return asyncio.to_thread


async def test_registration_checks_and_health(client: consul.Consul, run: Run) -> None:
    ttl = consul.Check.ttl("30s")
    assert await run(
        client.agent.service.register, "web", service_id="web-1", port=8080, tags=["v2"], check=ttl, meta={"a": "b"}
    )
    assert list(await run(client.agent.services)) == ["web-1"]
    assert (await run(client.health.service, "web", passing=True))[1] == []
    assert await run(client.agent.check.ttl_pass, "service:web-1", "fine")
    index, [entry] = await run(client.health.service, "web", passing=True, tag="v2")
    assert (entry["Service"]["ID"], entry["Service"]["Port"], entry["Node"]["Node"]) == ("web-1", 8080, "n1")
    assert int(index) > 0
    assert [c["Output"] for c in (await run(client.health.checks, "web"))[1]] == ["fine"]
    assert (await run(client.agent.checks))["service:web-1"]["Status"] == "passing"
    assert await run(client.agent.check.ttl_fail, "service:web-1")
    assert len((await run(client.health.state, "critical"))[1]) == 1
    assert await run(client.agent.service.maintenance, "web-1", "true", "upgrade")
    assert any(c["Notes"] == "upgrade" for c in (await run(client.health.node, "n1"))[1])
    assert await run(client.agent.service.deregister, "web-1")
    assert (await run(client.catalog.services))[1] == {}


async def test_the_catalogue(client: consul.Consul, run: Run) -> None:
    await run(client.agent.service.register, "web", port=80, tags=["x"])
    assert (await run(client.catalog.services))[1] == {"web": ["x"]}
    assert [s["ServicePort"] for s in (await run(client.catalog.service, "web"))[1]] == [80]
    assert [n["Node"] for n in (await run(client.catalog.nodes))[1]] == ["n1"]
    assert list((await run(client.catalog.node, "n1"))[1]["Services"]) == ["web"]
    assert await run(client.catalog.datacenters) == ["dc1"]
    assert (await run(client.agent.self))["Config"]["NodeName"] == "n1"
    assert [m["Name"] for m in await run(client.agent.members)] == ["n1"]
    assert ":" in await run(client.status.leader)
    assert len(await run(client.status.peers)) == 1


async def test_kv_and_transactions(client: consul.Consul, run: Run) -> None:
    assert await run(client.kv.put, "a/b", b"\x00\xff", flags=7)
    _, pair = await run(client.kv.get, "a/b")
    assert (pair["Value"], pair["Flags"]) == (b"\x00\xff", 7)
    assert await run(client.kv.put, "a/b", "x", cas=1) is False
    assert await run(client.kv.put, "a/b", "x", cas=pair["ModifyIndex"])
    assert (await run(client.kv.get, "a/", keys=True))[1] == ["a/b"]
    assert (await run(client.kv.get, "none"))[1] is None
    done = await run(client.txn.put, [{"KV": {"Verb": "set", "Key": "t/1", "Value": "eA=="}}])
    assert done["Errors"] is None
    assert await run(client.kv.delete, "a/", recurse=True)
    assert (await run(client.kv.get, "a/", recurse=True))[1] is None


async def test_a_blocking_query_is_woken(client: consul.Consul, run: Run) -> None:
    index, _ = await run(client.kv.get, "w")
    begun = threading.Event()

    def wait() -> Any:
        begun.set()
        return client.kv.get("w", index=index, wait="30s")

    async def write() -> None:
        await run(begun.wait)
        await run(client.kv.put, "w", "now")

    (after, pair), _ = await asyncio.gather(run(wait), write())
    assert pair["Value"] == b"now"
    assert int(after) > int(index)


async def test_sessions_and_locks(client: consul.Consul, run: Run) -> None:
    session = await run(client.session.create, "job", behavior="delete", ttl=10, lock_delay=0)
    assert await run(client.kv.put, "lock", "mine", acquire=session)
    other = await run(client.session.create)
    assert await run(client.kv.put, "lock", "yours", acquire=other) is False
    assert (await run(client.session.renew, session))["TTL"] == "10s"
    assert (await run(client.session.info, session))[1]["Behavior"] == "delete"
    assert {s["ID"] for s in (await run(client.session.list))[1]} >= {session, other}
    assert await run(client.session.destroy, session)
    assert (await run(client.kv.get, "lock"))[1] is None
    with pytest.raises(consul.NotFound):
        await run(client.session.renew, session)


async def test_a_refusal_is_the_exception_that_the_package_has_for_it(client: consul.Consul, run: Run) -> None:
    with pytest.raises(consul.base.BadRequest, match="Port"):
        await run(client.agent.service.register, "web", port=70000)
