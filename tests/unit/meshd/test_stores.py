"""What the configuration names is opened: one registry as it is, several as one store with a catalogue over both."""

import random
import time
from pathlib import Path

import pytest

from meshd.agent import Surroundings
from meshd.config import Host, load
from meshd.control.contact import Contact
from meshd.stores import Opened, open_stores
from registry.backends.consul_catalog import ConsulCatalog
from registry.backends.sqlite import SqliteStore
from registry.backends.union import UnionStore
from registry.errors import Denied
from tests.unit.meshd.conftest import Lines, settings

ETCD = "Registries=[{Name: etcd, Address: '127.0.0.1:1'}]"
CONSUL = "Registries=[{Name: old, Kind: consul, Address: 'http://127.0.0.1:1', Mode: agentless}]"


def opened(host: Host) -> Opened:
    around = Surroundings(Lines(), {}, time.time, time.monotonic, random.random, Contact(), lambda: host)  # type: ignore[arg-type] - a log that remembers
    return open_stores(host, around)


def host(folder: Path, *more: str) -> Host:
    return load(None, {}, [*settings(folder), *more])


async def test_one_registry_is_what_it_is(short_tmp: Path) -> None:
    found = opened(host(short_tmp))
    assert isinstance(found.store, SqliteStore)
    assert found.home is found.store
    assert (found.catalog, found.registries, list(found.runs)) == (None, None, ["leases"])
    await found.store.close()


@pytest.mark.parametrize("further", [ETCD, CONSUL])
async def test_further_ones_are_merged_and_other_hosts_are_served_from_home(short_tmp: Path, further: str) -> None:
    found = opened(host(short_tmp, further, "Registry.Merge=priority"))
    assert isinstance(found.store, UnionStore)
    assert isinstance(found.home, SqliteStore)
    assert found.registries is not None
    home, beside = found.registries.joined
    assert (home.name, home.kind, home.store) == ("home", "sqlite", found.home)
    assert list(found.runs) == ["leases", f"registry {beside.name}"]
    assert found.catalog is found.registries.placement
    assert list(found.registries.placement.holdings) == ["home", beside.name]
    assert (found.registries.last_known(beside.name), found.registries.rule) == (frozenset(), "priority")
    await found.store.close()


async def test_a_consul_beside_has_its_own_catalogue(short_tmp: Path) -> None:
    found = opened(host(short_tmp, CONSUL))
    assert found.registries is not None
    assert isinstance(found.registries.placement._catalogs["old"], ConsulCatalog)
    await found.store.close()


def test_a_file_that_cannot_be_used_is_named(short_tmp: Path) -> None:
    with pytest.raises(Denied, match="cannot be read"):
        opened(host(short_tmp, "Registries=[{Name: etcd, Address: '127.0.0.1:1', TokenFile: /nonexistent}]"))
