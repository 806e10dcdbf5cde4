"""Consul's own catalogue as the mesh's, on a real Consul with ACLs (default deny) and TLS with client certificates.

The server is stopped, killed, frozen and wiped; tokens are made with the rules in `deploy/consul`.
"""

import asyncio
import json
from collections.abc import AsyncIterator, Iterator
from contextlib import aclosing, asynccontextmanager
from pathlib import Path
from signal import SIGCONT, SIGKILL, SIGSTOP, SIGTERM, Signals

import msgspec
import pytest

from meshd.config import Registry
from registry import keys, values
from registry.backends.consul_catalog import ConsulCatalog
from registry.backends.consul_open import open_consul
from registry.backends.consul_registry import ConsulRegistry
from registry.errors import Conflict, Denied, NotFound, RegistryError, Unavailable
from registry.model import Address, Check, CheckResult, Instance
from registry.store import Alive, Batch, Lost, Resync, WatchEvent
from tests.consul_server import NEWER, OLDER, ConsulServer
from tests.contract.validators import news
from tests.fakes.running import running
from tests.mesh.cluster import random_net

pytestmark = [pytest.mark.outages, pytest.mark.timeout(90)]

NOTICED = 20.0  # seconds: twice what a quiet machine takes
NODES = {"agent": "server", "agentless": "b"}  # the agent of the test is the server's own


@pytest.fixture(scope="module", params=[OLDER, NEWER])
def consul(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    server = ConsulServer(tmp_path_factory.mktemp("consul"), f"{random_net()}.1", program=request.param)
    server.start()
    yield server
    server.kill()


class Mesh:
    """Store and catalogue of one host, and what its watch of `services/` said."""

    def __init__(self, store: ConsulRegistry, catalog: ConsulCatalog) -> None:
        self.store, self.catalog = store, catalog
        self.events = store.watch(keys.SERVICES)

    async def until(self, kind: type[WatchEvent], seconds: float = 30.0) -> WatchEvent:
        """The next event of a kind; others are skipped."""
        async with asyncio.timeout(seconds):
            while not isinstance(event := await self.events.__anext__(), kind):
                pass
        return event

    async def change(self) -> Batch:
        event = await self.until(Batch)
        assert isinstance(event, Batch)
        return event

    async def listed(self) -> dict[str, Instance]:
        event = await self.until(Resync)
        assert isinstance(event, Resync)
        return {one.key: values.read_instance(one.key, one.value) for one in event.entries}


@asynccontextmanager
async def mesh(
    server: ConsulServer,
    directory: Path,
    mode: str = "agentless",
    *,
    token: str | None = None,
    wait: float = 1.0,
    **override: object,
) -> AsyncIterator[Mesh]:
    """As a host opens it: from the section of its configuration. `token` None: the management token."""
    path = directory / "token"
    path.write_text(token if token is not None else server.management)
    settings = msgspec.convert(server.settings(path, mode) | override, Registry)
    store, catalog = open_consul(settings, NODES[mode], "10.0.0.2")
    store._wait = store.feed._wait = wait
    catalog._delete_after = 0.5
    opened = Mesh(store, catalog)
    async with running(store.run()), running(catalog.run()), aclosing(opened.events):  # type: ignore[type-var]  # a generator
        try:
            yield opened
        finally:
            await (
                store.close()
            )  # before its users are cancelled: what is under way is then cut off, not said goodbye to
    await ended()  # a loop that closes while a server has not said goodbye leaves the socket open


async def ended() -> None:
    """Connections that were given up end when the server has said goodbye, over TLS half a second later at most."""
    transports = getattr(asyncio.get_running_loop(), "_transports", {})
    async with asyncio.timeout(20):
        while any(getattr(one, "_sock", None) for one in transports.values()):  # noqa: ASYNC110 - no event for its end
            await asyncio.sleep(0.01)  # sleep: between two looks


def instance(mode: str, name: str, service: str = "api") -> Instance:
    return Instance(
        service=service,
        node=NODES[mode],
        id=name,
        address="10.0.0.2",
        port=8080,
        tags=("v2",),
        meta={"version": "2"},
        checks=(Check(check_id=f"live-{name}", http="http://127.0.0.1/"),),
        results=(CheckResult(check_id=f"live-{name}", status="passing"),),
        inbound=Address(address="10.0.0.2", port=15443),
    )


def puts(event: Batch) -> list[Instance]:
    return [values.read_instance(one.key, one.value) for one in event.puts]


@pytest.mark.parametrize("mode", ["agent", "agentless"])
async def test_an_instance_comes_changes_and_leaves_in_two_steps(
    consul: ConsulServer, tmp_path: Path, mode: str
) -> None:
    wanted = instance(mode, f"two-steps-{mode}", f"two-steps-{mode}")
    async with mesh(consul, tmp_path, mode) as host:
        await host.until(Resync)
        index = await host.catalog.register(wanted)
        first = await host.change()
        assert puts(first) == [wanted]
        assert first.index <= index
        assert await host.catalog.get(wanted.key) == wanted
        ill = msgspec.structs.replace(
            wanted,
            health="critical",
            results=(CheckResult(check_id=wanted.checks[0].check_id, status="critical", output="503"),),
        )
        await host.catalog.register(ill)
        assert await host.catalog.get(wanted.key) == ill
        shown = consul.call("GET", f"/v1/health/checks/{wanted.service}")
        assert [(one["Status"], one["Output"]) for one in shown] == [("critical", f"{wanted.checks[0].check_id}: 503")]
        await host.catalog.withdraw(wanted.key)
        found = await host.catalog.get(wanted.key)
        assert found is not None
        assert found.state == "withdrawn"
        shown = consul.call("GET", f"/v1/health/service/{wanted.service}?passing")
        assert shown == [], "other tools see the maintenance"
        while not (gone := await host.change()).deletes:
            pass
        assert gone.deletes == (keys.instance(wanted.service, wanted.node, wanted.id),)
        assert await host.catalog.get(wanted.key) is None
        with pytest.raises(NotFound):
            await host.catalog.withdraw(wanted.key)


@pytest.mark.parametrize("mode", ["agent", "agentless"])
async def test_registering_anew_ends_a_withdrawal(consul: ConsulServer, tmp_path: Path, mode: str) -> None:
    wanted = instance(mode, f"anew-{mode}")
    async with mesh(consul, tmp_path, mode) as host:
        await host.catalog.register(wanted)
        await host.catalog.withdraw(wanted.key)
        await host.catalog.register(wanted)
        assert await host.catalog.sweep() == 0
        assert await host.catalog.get(wanted.key) == wanted
        shown = consul.call("GET", "/v1/health/service/api?passing")
        assert wanted.id in [one["Service"]["ID"] for one in shown]


@pytest.mark.parametrize("mode", ["agent", "agentless"])
async def test_maintenance_of_meshd_is_consuls_and_ends_with_it(
    consul: ConsulServer, tmp_path: Path, mode: str
) -> None:
    wanted = instance(mode, f"maint-{mode}", f"maint-{mode}")
    async with mesh(consul, tmp_path, mode) as host:
        resting = msgspec.structs.replace(wanted, state="maintenance", reason="disk")
        await host.catalog.register(resting)
        assert await host.catalog.get(wanted.key) == resting
        checks = consul.call("GET", f"/v1/health/checks/{wanted.service}")
        assert "meshd: maintenance: disk" in [one["Notes"] for one in checks]
        await host.catalog.register(wanted)
        assert await host.catalog.get(wanted.key) == wanted


async def test_maintenance_that_consul_maint_switched_on_is_not_ours_to_end(
    consul: ConsulServer, tmp_path: Path
) -> None:
    wanted = instance("agent", "ops", "ops")
    async with mesh(consul, tmp_path, "agent") as host:
        await host.until(Resync)
        await host.catalog.register(wanted)
        consul.command("maint", "-enable", "-service", "ops", "-reason", "by hand")
        await host.catalog.register(wanted)
        found = await host.catalog.get(wanted.key)
        assert found is not None
        assert (found.state, found.reason) == ("maintenance", "by hand")
        consul.command("maint", "-disable", "-service", "ops")
        while puts(await host.change()) != [wanted]:
            pass
        assert await host.catalog.get(wanted.key) == wanted


async def test_a_service_that_another_tool_registers_joins_as_it_is(consul: ConsulServer, tmp_path: Path) -> None:
    definition = tmp_path / "db.json"
    service = {"Name": "db", "ID": "db 1", "Port": 5432, "Address": "10.0.0.9", "Meta": {"role": "primary"}}
    definition.write_text(json.dumps({"Service": service | {"Check": {"TTL": "60s", "Status": "warning"}}}))
    async with mesh(consul, tmp_path) as host:
        await host.until(Resync)
        consul.command("services", "register", str(definition))
        while not (found := [one for one in puts(await host.change()) if one.service == "db"]):
            pass
        assert (found[0].address, found[0].port, found[0].inbound) == ("10.0.0.9", 5432, None)
        assert (found[0].health, found[0].meta, found[0].node) == ("warning", {"role": "primary"}, "server")
        assert keys.valid_name(found[0].id), "db 1 is no name of the mesh's alphabet"
        assert await host.catalog.get(found[0].key) == found[0]
        consul.command("services", "deregister", str(definition))
        while not (left := puts(await host.change())):
            pass
        assert [one.state for one in left] == ["withdrawn"], "deregistering is how other tools leave on purpose"
        assert (await host.change()).deletes == (keys.instance("db", "server", found[0].id),)


async def test_an_agent_of_another_node_is_refused(consul: ConsulServer, tmp_path: Path) -> None:
    async with mesh(consul, tmp_path, "agent") as host:
        host.catalog._own_node = "elsewhere"
        with pytest.raises(Denied, match="the Consul agent is node server, this host is elsewhere"):
            await host.catalog.register(instance("agent", "nowhere"))


@pytest.mark.parametrize("number", [SIGTERM, SIGKILL])
async def test_a_restart_is_loud_and_loses_nothing(consul: ConsulServer, tmp_path: Path, number: Signals) -> None:
    async with mesh(consul, tmp_path) as host:
        wanted = instance("agentless", "kept")
        await host.catalog.register(wanted)
        before = await host.listed()
        await asyncio.to_thread(consul.end, number)
        await host.until(Lost)
        with pytest.raises(Unavailable):
            await host.catalog.register(wanted)
        await asyncio.to_thread(consul.start)
        after = await host.listed()
        assert after[keys.instance(*msgspec.structs.astuple(wanted.key))] == wanted
        assert after.keys() == before.keys()
        await host.catalog.register(wanted)


async def test_a_frozen_server_is_noticed_and_heard_again(consul: ConsulServer, tmp_path: Path) -> None:
    """Long before the minute that a blocking query may be silent, in every watch."""
    async with mesh(consul, tmp_path, wait=60.0) as host, aclosing(host.store.watch(keys.POLICY)) as policy:
        await host.until(Resync)
        assert isinstance(await anext(policy), Resync)
        consul.signal(SIGSTOP)
        try:
            async with asyncio.timeout(NOTICED):
                assert isinstance(await anext(policy), Lost)
                await host.until(Lost)
        finally:
            consul.signal(SIGCONT)
        await host.until(Resync)
        async with asyncio.timeout(30):
            while isinstance(await anext(policy), Lost):
                pass


async def test_a_wiped_data_directory_is_a_new_truth_loudly_and_instances_are_put_again(tmp_path: Path) -> None:
    server = ConsulServer(tmp_path / "wiped", f"{random_net()}.1")
    server.start()
    try:
        async with mesh(server, tmp_path) as host:
            wanted = instance("agentless", "again")
            await host.catalog.register(wanted)
            for _ in range(20):  # an index that the new server will not have reached
                await host.store.put("mesh/v1/config/mesh", b"{}")
                await host.store.delete("mesh/v1/config/mesh")
            await host.until(Resync)
            await asyncio.to_thread(server.kill)
            server.wipe()
            await asyncio.to_thread(server.start)
            assert await host.listed() == {}, "gone from the listing, not deregistered"
            assert await host.store.get(keys.STORE_ID) is None
            await host.catalog.repeat()
            while puts(await host.change()) != [wanted]:
                pass
    finally:
        server.kill()


async def test_without_a_token_everything_is_denied_and_nothing_looks_empty(
    consul: ConsulServer, tmp_path: Path
) -> None:
    """Consul lists nothing where a token may not read; that must not pass for an empty mesh."""
    async with mesh(consul, tmp_path, token="0a1b2c3d-0000-0000-0000-000000000000") as host:
        with pytest.raises(Denied):
            await host.until(Resync)
        async with aclosing(host.store.watch(f"{keys.SERVICES}api/")) as events:
            with pytest.raises(Denied):
                await events.__anext__()
        with pytest.raises(Denied):
            await host.store.list(keys.POLICY)
        with pytest.raises(Denied):
            await host.store.put(keys.lease("b"), b"{}")
        with pytest.raises(Denied):
            await host.catalog.register(instance("agentless", "x"))
        async with aclosing(host.store.watch(keys.POLICY)) as events:
            with pytest.raises(Denied):
                await events.__anext__()


async def test_a_hosts_token_is_for_its_own_services_and_keys(consul: ConsulServer, tmp_path: Path) -> None:
    token = consul.host_token("b", ["api"])
    await_id = consul.call("PUT", f"/v1/kv/{keys.STORE_ID}", "id")
    assert await_id is True
    async with mesh(consul, tmp_path, token=token) as host:
        await host.catalog.register(instance("agentless", "own"))
        lease = await host.store.grant(10.0, name="meshd b")
        await host.store.put(keys.lease("b"), b"{}", lease=lease)
        await host.store.put(keys.status("b"), b"{}", lease=lease)
        assert (await host.store.list(keys.POLICY)).entries == ()
        refused = [
            host.catalog.register(instance("agentless", "theirs", "web")),
            host.store.put(keys.lease("c"), b"{}"),
            host.store.put(keys.policy("service-intentions", "api"), b"{}"),
            host.store.put(keys.CA_TOKENS_USED + "x", b"{}", expect=0),
            host.store.get(keys.CA_ISSUED + "x"),
            host.store.put("mesh/v1/services/api/b/own", b"{}"),
        ]
        for call in refused:
            with pytest.raises(Denied):
                await call
        await host.store.revoke(lease)
        assert await host.store.get(keys.lease("b")) is None


async def test_a_lease_that_ended_leaves_its_key_to_the_next_at_once(consul: ConsulServer, tmp_path: Path) -> None:
    """No lock delay: a restarted host must not wait 15 s for its own key."""
    async with mesh(consul, tmp_path) as host:
        first = await host.store.grant(10.0)
        await host.store.put(keys.lease("z"), b"1", lease=first)
        second = await host.store.grant(10.0)
        assert not await host.store.acquire(keys.lease("z"), b"2", second)
        await host.store.revoke(first)
        assert await host.store.acquire(keys.lease("z"), b"2", second)
        await host.store.revoke(second)


async def test_create_only_and_a_lost_condition_is_no_refusal(consul: ConsulServer, tmp_path: Path) -> None:
    async with mesh(consul, tmp_path) as host:
        key = keys.CA_TOKENS_USED + "create-only"
        await host.store.put(key, b"1", expect=0)
        with pytest.raises(Conflict):
            await host.store.put(key, b"2", expect=0)


@pytest.mark.parametrize("missing", ["CAFile", "CertFile"])
async def test_the_wrong_authority_and_no_certificate_end_before_a_request(
    consul: ConsulServer, tmp_path: Path, missing: str
) -> None:
    other = ConsulServer(tmp_path / "other", consul.host)
    wrong = {"CAFile": str(other.ca)} if missing == "CAFile" else {"CertFile": "", "KeyFile": ""}
    async with mesh(consul, tmp_path, **wrong) as host:
        with pytest.raises(RegistryError) as caught:
            await host.store.get(keys.STORE_ID)
        assert isinstance(caught.value, Unavailable)
        assert "certificate" in str(caught.value).lower() or "ssl" in str(caught.value).lower()


async def test_a_blocking_query_of_the_mesh_wakes_for_the_catalogue_too(consul: ConsulServer, tmp_path: Path) -> None:
    async with mesh(consul, tmp_path) as host:
        await host.until(Resync)
        known = await host.store.index(keys.PREFIX)
        async with asyncio.timeout(10), running(_register(host, instance("agentless", "waker"))):
            assert await host.store.wait_index(keys.PREFIX, known) > known
        known = await host.store.index(keys.PREFIX)
        async with asyncio.timeout(10), running(_put(host)):
            assert await host.store.wait_index(keys.PREFIX, known) > known


async def _register(host: Mesh, one: Instance) -> None:
    await host.catalog.register(one)


async def _put(host: Mesh) -> None:
    await host.store.put("mesh/v1/nodes/waker", b"{}")


async def test_the_age_of_what_is_read_is_known(consul: ConsulServer, tmp_path: Path) -> None:
    async with mesh(consul, tmp_path) as host:
        await host.until(Resync)
        await host.until(Alive)
        assert host.store.feed.led
        assert 0 <= host.store.feed.age < 60


async def test_a_service_and_everything_are_followed_side_by_side(consul: ConsulServer, tmp_path: Path) -> None:
    """One query a service, told of that service alone; one query brings all of them."""

    def register(name: str) -> None:
        consul.call("PUT", "/v1/agent/service/register", {"Name": name, "Port": 1, "Address": "10.0.0.9"})

    async with mesh(consul, tmp_path) as host:
        await host.listed()
        one = host.store.watch(f"{keys.SERVICES}many-0/")
        async with aclosing(one):
            first = await news(one)
            assert isinstance(first, Resync)
            assert first.entries == ()
            for n in range(3):
                await asyncio.to_thread(register, f"many-{n}")
            seen: set[str] = set()
            while len(seen) < 3:
                seen |= {found.service for found in puts(await host.change()) if found.service.startswith("many-")}
            told = await news(one)
            assert isinstance(told, Batch)
            assert {found.service for found in puts(told)} == {"many-0"}
            for n in range(3):
                await asyncio.to_thread(consul.call, "PUT", f"/v1/agent/service/deregister/many-{n}")
            marked, gone = await news(one), await news(one)
            assert isinstance(marked, Batch)
            assert {found.state for found in puts(marked)} == {"withdrawn"}
            assert isinstance(gone, Batch)
            assert len(gone.deletes) == 1


async def test_services_of_this_node_are_found_whoever_registered_them(consul: ConsulServer, tmp_path: Path) -> None:
    async with mesh(consul, tmp_path, "agent") as host:
        found = asyncio.Event()
        host.catalog.on_foreign = found.set
        await asyncio.to_thread(consul.call, "PUT", "/v1/agent/service/register", {"Name": "odd name", "Port": 1})
        async with asyncio.timeout(30):
            while not any(name.startswith("odd-name-") for name in host.catalog.foreign):
                found.clear()
                await found.wait()
        name = next(name for name in host.catalog.foreign if name.startswith("odd-name-"))
        async with aclosing(host.store.watch(f"{keys.SERVICES}{name}/")) as watch:
            event = await news(watch)
        assert isinstance(event, Resync)
        assert [values.read_instance(one.key, one.value).service for one in event.entries] == [name]
        await asyncio.to_thread(consul.call, "PUT", "/v1/agent/service/deregister/odd%20name")
