"""Consul's catalogue read service by service and read whole: the comparison with the watch must find no difference."""

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry import keys
from registry.reconcile import Pace, Reconcile
from registry.store import Batch, Lost
from tests.consul_server import ConsulServer
from tests.contract.test_consul_catalog import instance, mesh
from tests.contract.test_reconcile import Lines
from tests.mesh.cluster import random_net

pytestmark = [pytest.mark.outages, pytest.mark.timeout(90)]

FOREIGN = {
    "Name": "db",
    "ID": "db/1:foreign",
    "Port": 5432,
    "Tags": ["primary"],
    "Meta": {"zone": "x"},
    "Weights": {"Passing": 5, "Warning": 2},
    "Check": {"TTL": "1h", "Status": "warning"},
}


@pytest.fixture(scope="module")
def consul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsulServer]:
    server = ConsulServer(tmp_path_factory.mktemp("consul"), f"{random_net()}.1")
    server.start()
    yield server
    server.kill()


async def test_services_of_all_tools_read_in_both_ways_are_the_same(consul: ConsulServer, tmp_path: Path) -> None:
    log, told = Lines(), set()

    async def repair(selector: str, missed: Batch) -> None:
        """Nothing is to be repaired: what would be is in the log."""

    consul.call("PUT", "/v1/agent/service/register", FOREIGN)
    async with mesh(consul, tmp_path) as host:
        reconcile = Reconcile(host.store, lambda: (keys.SERVICES,), repair, log, Pace(grace=0.2))
        wanted = [instance("agentless", f"w{n}", service) for n, service in enumerate(("api", "api", "web"))]
        for one in wanted:
            await host.catalog.register(one)
        async with asyncio.timeout(30):
            while len(told) < len(wanted) + 1:
                event = await host.events.__anext__()
                reconcile.seen(keys.SERVICES, event)
                if not isinstance(event, Lost):
                    told |= {entry.key for entry in getattr(event, "entries", ()) or getattr(event, "puts", ())}
        assert await reconcile.check(keys.SERVICES) == 0, log.found
