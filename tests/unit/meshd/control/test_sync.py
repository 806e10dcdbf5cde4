"""From events to Updates: nothing before every watch has listed, bursts merged, the registry's loss survived."""

import asyncio
import time

from meshd.control.sync import MERGE, earliest
from registry import keys, snapshot
from registry.brake import Limits
from registry.ca.files import Layout
from registry.flap import HALF_LIFE
from registry.interest import EVERYTHING
from registry.model import Document
from registry.snapshot import Snapshot
from registry.store import Batch, Entry, Lost, Resync
from tests.unit.meshd.conftest import Single, until

DEFAULTS = keys.policy("service-defaults", "web")


async def test_a_burst_of_events_is_few_updates(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("settled", lambda: single.held("identity/web/a/web-1"))
    sync = single.agent.sync
    before, index = single.agent.compilation.version, sync.index + 1000
    for number in range(40):
        text = f"MaxInboundConnections: {number + 1}\n".encode()
        sync._take(keys.POLICY, Batch(index + number, (Entry(key=DEFAULTS, value=text, version=index, created=1),)))

    def last() -> bool:
        inbound = single.held("inbound/web/a/web-1")
        return bool(inbound and inbound.get("max_connections") == 40)

    await until("the last one is in force", last)
    assert single.agent.compilation.version - before <= 3


async def test_the_wait_for_more_follows_the_cost_of_compiling(single: Single) -> None:
    await until("compiled", lambda: single.agent.compilation.version)
    assert 0 < single.agent.sync._merge <= MERGE


async def test_nothing_is_compiled_before_every_watch_has_listed(fresh: Single) -> None:
    sync = fresh.agent.sync
    sync._subscribe()
    for selector in sorted(fresh.agent.fold.wanted):
        assert not sync._may_compile()
        sync._take(selector, Resync(1, ()))
    assert sync._may_compile()


async def test_a_lost_registry_changes_nothing_and_is_said_once(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("settled", lambda: single.held("identity/web/a/web-1"))
    sync, updates = single.agent.sync, len(single.proxy.updates)
    woken: list[bool] = []
    sync.on_contact = lambda: woken.append(True)
    for prefix in EVERYTHING:
        sync._take(prefix, Lost("gone"))
    await asyncio.sleep(3 * MERGE)  # sleep: nothing must happen in the time in which something would
    assert len(single.proxy.updates) == updates
    assert single.log.events().count("registry lost; the last state stays") == 1
    _, status = await single.call("GET", "/v1/mesh/status")
    assert not status["registry"]["reachable"]
    sync._take(keys.LEASES, Batch(sync.index + 1))
    assert woken


async def test_an_empty_proxy_is_given_what_the_disk_knows(fresh: Single) -> None:
    agent = fresh.agent
    await fresh.proxy.start()
    agent.load()
    for prefix in EVERYTHING:
        agent.sync._take(prefix, Lost("away"))
    running = await agent.supervisor.find()
    assert running is not None
    agent.dataplane.attach(running.link)
    assert not agent.sync._may_compile()
    agent.sync._started -= 60
    assert agent.sync._may_compile()
    running.link.hello.holds["service/old"] = "00"
    assert not agent.sync._may_compile()  # one that serves is left alone
    running.link.close()
    await fresh.proxy.stop()


async def test_a_refused_document_without_a_good_version_comes_from_the_history(single: Single) -> None:
    _, body = await single.apply("Kind: service-defaults\nName: web\nProtocol: http\n")
    assert body["applied"][0]["changed"]
    name = ("service-defaults", "web")
    await until("known", lambda: name in single.agent.documents.good)
    single.agent.documents._forget(name)  # as on a host that never saw it
    await single.store.put(DEFAULTS, b"Protokol: x\n")
    await until("recovered", lambda: name in single.agent.documents.good)
    assert single.agent.documents.rejected[name].version > single.agent.documents.good[name].version


async def test_a_restart_remembers_revocations_and_meshed_services(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    uri = "spiffe://mesh.local/svc/x/n/b/i/1"
    await single.call("POST", "/v1/mesh/revocations", {"identity": uri, "reason": "stolen"})
    path = single.host.data / "memory.json"
    await until("on disk", lambda: path.exists() and b"web" in path.read_bytes() and len(path.read_bytes()) > 60)
    assert "web" in single.agent.compilation.view().meshed


async def test_the_brakes_limits_follow_the_mesh_document(single: Single) -> None:
    assert single.agent.fold.limits == Limits()
    await single.apply("Kind: mesh\nRegistry: {MaxRemovalPercent: 30, Window: 2m}\n")
    await until("set", lambda: single.agent.fold.limits == Limits(percent=30.0, window=120.0))
    await single.apply("Kind: mesh\nRegistry: {Window: 10s}\n")
    await until("set", lambda: single.agent.fold.limits == Limits(window=10.0))


async def test_the_half_life_of_flaps_follows_the_mesh_document(single: Single) -> None:
    assert single.agent.fold.half_life == HALF_LIFE
    await single.apply("Kind: mesh\nRegistry: {FlapHalfLife: 0s}\n")
    await until("off", lambda: single.agent.fold.half_life == 0.0)
    await single.apply("Kind: mesh\nRegistry: {FlapHalfLife: 90s}\n")
    await until("set", lambda: single.agent.fold.half_life == 90.0)


async def test_a_deleted_document_goes_when_it_has_settled(single: Single) -> None:
    await single.apply("Kind: service-defaults\nName: web\nProtocol: http\n")
    await until("known", lambda: single.agent.documents.good)
    await single.store.delete(DEFAULTS)
    await until("gone", lambda: not single.agent.documents.good)


def test_the_earliest_of_deadlines_that_there_are() -> None:
    assert earliest(None, 3.0, 2.0) == 2.0
    assert earliest(None) is None


async def test_the_stores_id_outlives_a_restart(single: Single) -> None:
    path = single.host.data / "memory.json"
    await until("known", lambda: single.agent.fold.pinned)
    await until("on disk", lambda: path.exists() and single.agent.fold.pinned.encode() in path.read_bytes())


async def test_a_start_beside_a_wiped_store_goes_on_with_the_snapshot(fresh: Single) -> None:
    agent = fresh.agent
    document = Document(kind="service-intentions", name="web", text=b"Sources: []\n", version=4)
    kept = Snapshot(node="a", trust_domain="mesh.local", heard=time.time(), store_id="one", documents=(document,))
    await asyncio.to_thread(snapshot.write, fresh.host.data / "snapshot", kept, Layout(fresh.host.data))
    agent.load()
    agent.fold.pinned = "one"
    for prefix in EVERYTHING:
        agent.sync._take(prefix, Resync(1, ()))
    assert agent.fold.foreign
    assert agent.sync._silent()
    await agent.sync._restore()
    assert agent.documents.good["service-intentions", "web"].version == 4
    assert not agent.sync._silent()
    assert "the store is in doubt; nothing is let go of until `meshctl registry adopt`" in fresh.log.errors()
