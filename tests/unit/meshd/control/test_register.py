"""The local agent: registered, kept on disk, put again, withdrawn before deletion, checked."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from meshd.control.health import Runner
from meshd.control.register import Facts, Registrar
from meshd.control.registrations import File
from meshd.tasks import Tasks
from registry import keys, values
from registry.api.registration import Registration
from registry.catalog import KvCatalog
from registry.errors import Denied, NotFound, Unavailable
from registry.model import Address, Check, CheckResult, Instance, InstanceKey
from tests.fakes.store import MemoryStore
from tests.unit.meshd.control.conftest import Clock, Lines

KEY = InstanceKey("web", "a", "web-1")
TTL = Check(check_id="alive", ttl=60.0)


def web(**more: object) -> Registration:
    return Registration(**({"service": "web", "id": "web-1", "port": 80} | more))  # type: ignore[arg-type] - fields come from the test


class Bench:
    """A registrar over a store in memory."""

    def __init__(self, folder: Path, store: MemoryStore, log: Lines, clock: Clock) -> None:
        self.store = store
        self.tasks = Tasks("test", log)
        self.facts = Facts("a", "10.0.0.1", "127.0.0.1", Address(address="10.0.0.1", port=15443), "1", False, entitled)
        self.runner = Runner(self.tasks, self.report, lambda: 0.0)
        self.registrar = Registrar(self.facts, KvCatalog(store), File(folder / "r.json"), self.runner, log, clock)
        self.changes = 0
        self.registrar.on_change = self.changed

    def changed(self) -> None:
        self.changes += 1

    async def report(self, key: InstanceKey, result: CheckResult) -> None:
        await self.registrar.report(key, result)

    def stored(self) -> dict[InstanceKey, Instance]:
        found = [values.read_instance(key, entry.value) for key, entry in self.store.entries.items()
                 if key.startswith(keys.SERVICES)]  # fmt: skip
        return {one.key: one for one in found}

    async def reconciled(self) -> None:
        """One pass of the loop that keeps the registry at what is registered here."""
        running = self.tasks.start("register", self.registrar.run)
        self.registrar._dirty.set()
        for _ in range(20):
            await asyncio.sleep(0)
        running.cancel()
        await asyncio.wait([running])


def entitled(service: str) -> bool:
    return service != "foreign"


@pytest.fixture
async def bench(tmp_path: Path, store: MemoryStore, log: Lines, clock: Clock) -> AsyncIterator[Bench]:
    made = Bench(tmp_path, store, log, clock)
    yield made
    await made.tasks.stop()


async def test_a_registration_is_in_the_catalogue_with_the_hosts_addresses(bench: Bench) -> None:
    index = await bench.registrar.register(web(), replace_checks=False)
    stored = bench.stored()[KEY]
    assert index == bench.store.entries[keys.instance("web", "a", "web-1")].version
    assert (stored.address, stored.port, stored.inbound) == ("10.0.0.1", 80, bench.facts.inbound)
    assert bench.registrar.local[0].address == "127.0.0.1"  # what our proxy dials
    assert bench.changes == 1


async def test_an_address_of_the_registration_is_dialled_as_given(bench: Bench) -> None:
    await bench.registrar.register(web(address="10.0.0.9"), replace_checks=False)
    assert bench.registrar.local[0].address == bench.stored()[KEY].address == "10.0.0.9"


async def test_a_service_that_the_host_may_not_serve_is_denied(bench: Bench) -> None:
    with pytest.raises(Denied, match="not entitled"):
        await bench.registrar.register(web(service="foreign"), replace_checks=False)
    assert bench.registrar.services() == {}


async def test_with_the_registry_away_it_is_kept_and_put_later(bench: Bench, tmp_path: Path, log: Lines) -> None:
    bench.store.failures.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        await bench.registrar.register(web(), replace_checks=False)
    again = Bench(tmp_path, bench.store, log, Clock())
    again.registrar.load(())
    assert [one.id for one in again.registrar.local] == ["web-1"]
    again.registrar.seen({})
    await again.reconciled()
    assert KEY in again.stored()


async def test_what_the_store_lost_is_put_again(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.store.entries.clear()
    bench.registrar.seen({})
    await bench.reconciled()
    assert KEY in bench.stored()


async def test_nothing_is_put_before_the_first_listing(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.store.entries.clear()
    await bench.reconciled()
    assert bench.stored() == {}


async def test_deregistering_withdraws_first(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.registrar.seen(bench.stored())
    await bench.registrar.deregister("web-1")
    assert bench.stored()[KEY].state == "withdrawn"
    assert [one.state for one in bench.registrar.local] == ["withdrawn"]  # still served, until it is deleted
    bench.registrar.seen(bench.stored())
    assert [one.state for one in bench.registrar.local] == ["withdrawn"]
    bench.registrar.seen({})
    assert bench.registrar.local == ()
    with pytest.raises(NotFound):
        await bench.registrar.deregister("web-1")


async def test_a_watch_that_lags_does_not_end_what_is_leaving(bench: Bench, clock: Clock) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    old = bench.stored()
    await bench.registrar.deregister("web-1")
    for picture in ({}, old):
        bench.registrar.seen(picture)
        assert [one.state for one in bench.registrar.local] == ["withdrawn"]
    clock.now += 61
    assert bench.registrar.local == ()


async def test_a_withdrawal_that_the_registry_missed_is_made_good(bench: Bench, tmp_path: Path, log: Lines) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.store.failures.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        await bench.registrar.deregister("web-1")
    assert bench.stored()[KEY].state == "active"
    again = Bench(tmp_path, bench.store, log, Clock())
    again.registrar.load(())
    again.registrar.seen(bench.stored())
    await again.reconciled()
    assert bench.stored()[KEY].state == "withdrawn"


async def test_an_id_that_moves_to_another_service_withdraws_the_old_one(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    await bench.registrar.register(web(service="other"), replace_checks=False)
    bench.registrar.seen(bench.stored())
    await bench.reconciled()
    assert bench.stored()[KEY].state == "withdrawn"


async def test_services_of_the_file_come_and_go_with_it(bench: Bench, tmp_path: Path, log: Lines) -> None:
    bench.registrar.load((web(),))
    await bench.registrar.maintenance("web-1", True, "disk")  # saves
    again = Bench(tmp_path, bench.store, log, Clock())
    again.registrar.load(())
    assert again.registrar.services() == {}
    again.registrar.seen(bench.stored())
    await again.reconciled()
    assert bench.stored()[KEY].state == "withdrawn"


async def test_maintenance_and_back(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    await bench.registrar.maintenance("web-1", True, "disk")
    assert (bench.stored()[KEY].state, bench.stored()[KEY].reason) == ("maintenance", "disk")
    await bench.registrar.register(web(port=81), replace_checks=False)
    assert bench.stored()[KEY].state == "maintenance"  # a re-registration does not end it
    await bench.registrar.maintenance("web-1", False, "")
    assert (bench.stored()[KEY].state, bench.stored()[KEY].reason) == ("active", "")


async def test_health_is_that_of_the_worst_check_and_written_on_change_only(bench: Bench) -> None:
    await bench.registrar.register(web(checks=(TTL,)), replace_checks=False)
    assert bench.stored()[KEY].health == "critical"  # before the first result
    await bench.registrar.check_update("alive", "passing", "fine")
    assert bench.stored()[KEY].health == "passing"
    version = bench.store.entries[keys.instance("web", "a", "web-1")].value
    await bench.registrar.check_update("alive", "passing", "still fine")
    assert bench.store.entries[keys.instance("web", "a", "web-1")].value == version
    assert bench.registrar.checks()["alive"].result.output == "still fine"
    with pytest.raises(NotFound, match="no TTL check"):
        await bench.registrar.check_update("absent", "passing", "")


async def test_checks_are_added_kept_replaced_and_removed(bench: Bench) -> None:
    await bench.registrar.register(web(checks=(TTL,)), replace_checks=False)
    await bench.registrar.check_register("web-1", Check(check_id="more", ttl=60.0))
    await bench.registrar.register(web(), replace_checks=False)
    assert set(bench.registrar.checks()) == {"alive", "more"}
    await bench.registrar.check_deregister("more")
    assert set(bench.registrar.checks()) == {"alive"}
    await bench.registrar.register(web(), replace_checks=True)
    assert bench.registrar.checks() == {}
    assert bench.stored()[KEY].health == "passing"
    with pytest.raises(NotFound):
        await bench.registrar.check_deregister("alive")


async def test_critical_for_too_long_deregisters(bench: Bench, clock: Clock) -> None:
    check = msgspec.structs.replace(TTL, deregister_critical_service_after=60.0)
    await bench.registrar.register(web(checks=(check,)), replace_checks=False)
    bench.registrar.seen(bench.stored())
    await bench.registrar.check_update("alive", "passing", "")
    await bench.registrar.check_update("alive", "critical", "")
    clock.now += 59
    await bench.reconciled()
    assert bench.stored()[KEY].state == "active"
    clock.now += 2
    await bench.reconciled()
    assert bench.stored()[KEY].state == "withdrawn"


async def test_stopping_withdraws_all_but_keeps_them_for_the_next_start(
    bench: Bench, tmp_path: Path, log: Lines
) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.registrar.seen(bench.stored())
    await bench.registrar.withdraw_all()
    await bench.reconciled()  # must not put it back while the host leaves
    assert bench.stored()[KEY].state == "withdrawn"
    again = Bench(tmp_path, bench.store, log, Clock())
    again.registrar.load(())
    again.registrar.seen(bench.stored())
    await again.reconciled()
    assert bench.stored()[KEY].state == "active"


def test_info_names_the_host(bench: Bench) -> None:
    assert (bench.registrar.info().node, bench.registrar.info().server) == ("a", False)


async def test_one_withdrawal_that_cannot_be_made_holds_up_nothing_else(bench: Bench) -> None:
    await bench.registrar.register(web(), replace_checks=False)
    bench.store.failures.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        await bench.registrar.deregister("web-1")
    await bench.registrar.register(web(id="web-2"), replace_checks=False)
    del bench.store.entries[keys.instance("web", "a", "web-2")]
    bench.registrar.seen(bench.stored())
    bench.store.failures.append(Unavailable("still away"))
    await bench.reconciled()
    assert InstanceKey("web", "a", "web-2") in bench.stored()
    assert "still away" in bench.registrar.problem


async def test_several_registries_are_settled_with_each_pass(bench: Bench) -> None:
    asked: list[list[str]] = []

    async def settle(instances: list[Instance]) -> None:
        asked.append([one.id for one in instances])

    bench.registrar.settle = settle
    await bench.registrar.register(web(), replace_checks=False)
    bench.registrar.seen(bench.stored())
    bench.registrar.poke()
    await bench.reconciled()
    assert asked[-1] == ["web-1"]


async def test_a_service_is_hosted_until_its_last_instance_is_gone_from_the_registry(
    bench: Bench, clock: Clock, tmp_path: Path, log: Lines
) -> None:
    registrar = bench.registrar
    await registrar.register(web(), replace_checks=False)
    assert registrar.hosted == {"web"}
    await registrar.deregister("web-1")
    assert registrar.hosted == {"web"}, "the registry may still have it"
    again = Registrar(registrar._facts, KvCatalog(bench.store), File(tmp_path / "r.json"), bench.runner, log, clock)
    again.load(())
    assert again.hosted == {"web"}, "also after a restart"
    again.seen(bench.stored())
    clock.now += 1000
    assert again.hosted == {"web"}, "it is still there"
    again.seen({})
    assert again.hosted == frozenset()


async def test_what_an_earlier_run_left_withdrawn_is_finished(bench: Bench) -> None:
    left = Instance(service="web", node="a", id="old", address="10.0.0.1", port=80, state="withdrawn")
    finished: list[InstanceKey] = []
    bench.registrar._catalog.finish = finished.append  # type: ignore[method-assign]  # the catalogue has its own test
    bench.registrar.seen({left.key: left})
    assert finished == [left.key]


async def test_services_of_other_tools_on_this_host_are_hosted(bench: Bench) -> None:
    bench.registrar._catalog.foreign = frozenset({"legacy"})
    assert bench.registrar.hosted == {"legacy"}
