"""One host from registration to what its proxy holds, in one process."""

import asyncio
import time
from typing import Any

from meshd.agent import attend
from meshd.tasks import Tasks
from registry import keys
from registry.reconcile import Pace
from registry.values import write
from tests.fakes.forgetful import ForgetfulStore
from tests.unit.meshd.conftest import Single, until
from tests.unit.registry import made

WEB = {"Name": "web", "ID": "web-1", "Port": 8080, "Mesh": {"Upstreams": [{"Service": "api", "LocalBindPort": 9101}]}}
ALLOW = "Kind: service-intentions\nName: web\nSources: [{Name: api, Action: allow}]\n"


async def test_a_registration_becomes_listener_inbound_and_identity(single: Single) -> None:
    assert (await single.register(**WEB))[0] == 200
    identity: Any = await until("identity", lambda: single.held("identity/web/a/web-1"))
    assert identity["spiffe"] == "spiffe://mesh.local/svc/web/n/a/i/web-1"
    assert single.held("listener/web/a/web-1:api") is not None
    inbound = single.held("inbound/web/a/web-1")
    assert inbound is not None
    assert inbound["app"] == f"{single.host.loopback}:8080"
    assert single.held("trust/trust") is not None


async def test_trust_goes_first_and_alone(single: Single) -> None:
    first = single.proxy.updates[0]
    assert [one["kind"] for one in first["put"]] == ["trust"]
    assert single.proxy.updates[1]["full"]


def allowed(single: Single) -> bool:
    """The proxy lets `api` call `web`."""
    inbound = single.held("inbound/web/a/web-1")
    sources = inbound.get("permissions", {}).get("sources", []) if inbound else []
    return bool(sources and sources[0]["action"] == "allow")


async def test_a_key_written_by_hand_is_in_force(single: Single) -> None:
    await single.register(**WEB)
    await until("inbound", lambda: single.held("inbound/web/a/web-1"))
    await single.call("PUT", f"/v1/kv/{keys.policy('service-intentions', 'web')}", ALLOW.encode())
    await until("the intention is in force", lambda: allowed(single))


async def test_an_instance_that_the_watch_forgot_to_tell_is_found_by_comparing(fresh: Single) -> None:
    agent = fresh.agent
    forgetful = ForgetfulStore(fresh.store)
    key = keys.instance("api", "b", "api-1")
    forgetful.forget.add(key)
    agent.watcher._store = forgetful  # type: ignore[assignment]  # it is asked for watches alone
    agent.reconcile._pace = Pace(every=0.05, grace=0.01)
    await fresh.start()
    try:
        await fresh.follows("api")
        await fresh.store.put(key, write(made.instance("api", "b", "api-1")))
        await until("in the picture", lambda: "api" in agent.fold.services)
        _, page = await fresh.call("GET", "/metrics", admin=True)
        assert b"meshd_registry_reconcile_differences_total 1.0" in page
        assert "the registry's watch had missed changes; made good by a listing" in fresh.log.events()
    finally:
        await fresh.stop()


async def test_a_bad_document_keeps_the_last_good_one_and_is_named(single: Single) -> None:
    await single.register(**WEB)
    key = keys.policy("service-intentions", "web")
    await single.call("PUT", f"/v1/kv/{key}", ALLOW.encode())
    await until("in force", lambda: allowed(single))
    await single.call("PUT", f"/v1/kv/{key}", b"Sources: [{Nam: api}]\n")
    await until("refused", lambda: single.agent.documents.rejected)
    assert allowed(single)
    _, status = await single.call("GET", "/v1/mesh/status")
    assert status["problems"][0]["document"] == "service-intentions/web"
    _, page = await single.call("GET", "/metrics", admin=True)
    assert b"meshd_config_last_reload_successful 0.0" in page
    assert "document refused; the last good version stays" in single.log.errors()


async def test_status_names_digests_in_force(single: Single) -> None:
    _, result = await single.apply(ALLOW)
    digest = result["applied"][0]["digest"]

    async def reported() -> bool:
        entry = await single.store.get(keys.status("a"))
        return entry is not None and digest in entry.value.decode()

    end = time.monotonic() + 10
    while not await reported():
        assert time.monotonic() < end
        await asyncio.sleep(0.01)  # sleep: the pace of a wait with a deadline


async def test_deregistering_withdraws_before_it_deletes(single: Single) -> None:
    await single.register(**WEB)
    await until("inbound", lambda: single.held("inbound/web/a/web-1"))
    assert (await single.call("PUT", "/v1/agent/service/deregister/web-1"))[0] == 200
    entry = await single.store.get(keys.instance("web", "a", "web-1"))
    assert entry is not None
    assert b"withdrawn" in entry.value
    assert single.held("inbound/web/a/web-1") is not None  # running requests finish


async def test_an_instance_that_the_store_lost_is_put_again(single: Single) -> None:
    await single.register(**WEB)
    key = keys.instance("web", "a", "web-1")
    await until("seen", lambda: single.agent.registrar._stored)
    await single.store.delete(key)
    end = time.monotonic() + 10
    while await single.store.get(key) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)  # sleep: the pace of a wait with a deadline


async def test_the_hosts_lease_and_node_are_there_and_come_back(single: Single) -> None:
    await until("lease", lambda: single.agent.lease.id)
    assert await single.store.get(keys.node("a")) is not None
    await single.store.delete(keys.lease("a"))
    end = time.monotonic() + 10
    while await single.store.get(keys.lease("a")) is None:
        assert time.monotonic() < end
        await asyncio.sleep(0.01)  # sleep: the pace of a wait with a deadline


async def test_drain_withdraws_and_lets_the_proxy_finish(single: Single) -> None:
    await single.register(**WEB)

    async def ends() -> None:
        await single.proxy.drained.wait()

    waiting = asyncio.get_running_loop().create_task(ends())
    draining = asyncio.get_running_loop().create_task(single.agent.drain())
    await asyncio.wait_for(waiting, 10)
    entry = await single.store.get(keys.instance("web", "a", "web-1"))
    assert entry is not None
    assert b"withdrawn" in entry.value
    assert "draining" in single.agent.not_ready()
    draining.cancel()  # the fake lives in this process, so it cannot end
    await asyncio.wait([draining])


async def test_a_crash_ends_the_process_with_1_and_a_signal_with_0(single: Single) -> None:
    side = Tasks("store", single.log)
    stop = asyncio.Event()
    stop.set()
    assert await attend(single.agent, side, stop) == 0

    async def broken() -> None:
        raise RuntimeError("disk")

    side.start("leases", broken)
    assert await attend(single.agent, side, asyncio.Event()) == 1
