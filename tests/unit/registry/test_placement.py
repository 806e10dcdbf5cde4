"""Where a host's instances are: added first, taken away when seen, never lost by an outage or an unknown name."""

from collections.abc import Callable

import msgspec
import pytest

from registry import keys, values
from registry.backends.union import Member, UnionStore
from registry.catalog import KvCatalog
from registry.errors import Denied, NotFound, Unavailable
from registry.model import Instance
from registry.placement import Holding, Placement
from registry.store import Alive, Batch, Lost, Resync
from tests.fakes.store import MemoryStore
from tests.unit.registry import made

WEB = made.instance()
KEY = WEB.key
STORED = made.key(WEB)


class Lines:
    def __init__(self) -> None:
        self.events: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        self.events.append(event)

    warning = info


class Host:
    """A placement over two stores in memory; `looked` is what its watches would tell now."""

    def __init__(self) -> None:
        self.stores = {name: MemoryStore() for name in ("home", "etcd")}
        union = UnionStore([Member(name, store) for name, store in self.stores.items()])  # type: ignore[arg-type] - a store without locks
        self.log = Lines()
        catalogs = {name: KvCatalog(store) for name, store in self.stores.items()}
        self.placement = Placement(union, catalogs, "a", self.log)
        self.named: tuple[str, ...] | None = ()
        self.placement.places = lambda service: self.named
        self.looked()

    def looked(self, *names: str) -> None:
        for name in names or self.stores:
            store = self.stores[name]
            entries = tuple(store.entries.values())
            self.placement.holdings[name].apply(keys.SERVICES, Resync(store.index_now, entries))

    def lose(self, name: str) -> None:
        self.placement.holdings[name].apply(keys.SERVICES, Lost("refused"))

    def where(self) -> dict[str, Instance]:
        found = {}
        for name, store in self.stores.items():
            if STORED in store.entries:
                found[name] = values.read_instance(STORED, store.entries[STORED].value)
        return found

    async def settle(self) -> None:
        await self.placement.settle([WEB])


@pytest.fixture
def host() -> Host:
    return Host()


async def test_home_is_where_a_service_is_that_nothing_is_said_of(host: Host) -> None:
    assert await host.placement.register(WEB) > 0
    assert set(host.where()) == {"home"}
    assert await host.placement.get(KEY) == WEB
    assert await host.placement.instances("web") == (WEB,)


async def test_a_move_adds_waits_until_it_is_seen_and_takes_away(host: Host) -> None:
    await host.placement.register(WEB)
    host.looked()
    host.named = ("etcd",)
    await host.settle()
    assert set(host.where()) == {"home", "etcd"}, "not seen in etcd yet"
    host.looked("etcd")
    await host.settle()
    assert set(host.where()) == {"etcd"}
    assert host.log.events == ["registered in", "moved out of"]


async def test_in_both_is_in_both_and_written_in_both(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    host.looked()
    ill = msgspec.structs.replace(WEB, health="critical")
    await host.placement.register(ill)
    await host.placement.settle([ill])
    assert host.where() == {"home": ill, "etcd": ill}
    await host.placement.update(WEB)
    assert host.where() == {"home": WEB, "etcd": WEB}


async def test_what_a_registry_has_lost_is_put_again(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    host.looked()
    host.stores["etcd"].entries.clear()
    host.looked()
    await host.settle()
    assert set(host.where()) == {"home", "etcd"}


@pytest.mark.parametrize("named", [("home", "elsewhere"), ("elsewhere",), None])
async def test_an_unknown_name_keeps_it_where_it_is(host: Host, named: tuple[str, ...] | None) -> None:
    host.named = ("etcd",)
    await host.placement.register(WEB)
    host.looked()
    host.named = named
    await host.settle()
    host.looked()
    await host.settle()
    assert "etcd" in host.where()
    assert host.placement.unknown("web") == (("elsewhere",) if named else ())


async def test_an_unknown_name_registers_at_home_what_is_nowhere(host: Host) -> None:
    host.named = ("elsewhere",)
    await host.placement.register(WEB)
    assert set(host.where()) == {"home"}


async def test_nothing_is_taken_away_while_the_new_registry_is_out_of_contact(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    host.looked()
    host.named = ("etcd",)
    host.lose("etcd")
    await host.settle()
    assert set(host.where()) == {"home", "etcd"}


async def test_an_outage_of_one_holds_up_no_write_of_the_other(host: Host) -> None:
    host.named = ("home", "etcd")
    host.lose("etcd")
    host.stores["etcd"].failures.append(Unavailable("away"))
    await host.placement.register(WEB)
    await host.settle()
    assert set(host.where()) == {"home"}
    assert host.stores["etcd"].failures, "it was not asked"


async def test_with_all_of_its_registries_lost_nothing_is_asked(host: Host) -> None:
    host.named = ("etcd",)
    host.lose("etcd")
    with pytest.raises(Unavailable, match="etcd: out of contact"):
        await host.placement.register(WEB)
    assert host.where() == {}


async def test_a_refusal_of_one_is_logged_and_one_of_all_raised(host: Host) -> None:
    host.named = ("home", "etcd")
    host.stores["etcd"].failures.append(Denied("no right"))
    await host.placement.register(WEB)
    assert host.log.events == ["a registry does not take an instance"]
    for store in host.stores.values():
        store.failures.append(Denied("no right"))
    with pytest.raises(Denied):
        await host.placement.register(WEB)
    for store in host.stores.values():
        store.failures.append(Denied("no right"))
    with pytest.raises(Denied):
        await host.placement.update(WEB)


async def test_a_withdrawal_marks_every_copy(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    host.looked()
    await host.placement.withdraw(KEY)
    assert [one.state for one in host.where().values()] == ["withdrawn", "withdrawn"]
    host.looked()
    assert not host.placement.holdings["etcd"].shows(KEY)


async def test_a_withdrawal_is_not_done_while_a_registry_that_has_it_is_away(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    host.looked()
    host.lose("etcd")
    with pytest.raises(Unavailable, match="etcd: out of contact"):
        await host.placement.withdraw(KEY)
    assert host.where()["home"].state == "withdrawn"
    host.looked()
    await host.placement.withdraw(KEY)
    assert host.where()["etcd"].state == "withdrawn"


async def test_withdrawing_what_is_nowhere_is_not_found(host: Host) -> None:
    with pytest.raises(NotFound):
        await host.placement.withdraw(KEY)


async def test_removing_takes_every_copy(host: Host) -> None:
    host.named = ("home", "etcd")
    await host.placement.register(WEB)
    await host.placement.remove(KEY)
    assert host.where() == {}


async def test_one_that_cannot_be_settled_holds_up_no_other(host: Host) -> None:
    host.named = ("etcd",)
    other = made.instance(id="web-2")
    host.stores["etcd"].failures.append(Unavailable("away"))
    with pytest.raises(Unavailable):
        await host.placement.settle([WEB, other])
    assert list(host.stores["etcd"].entries) == [made.key(other)]


class Adopting(KvCatalog):
    """Remembers what it was to take in."""

    def __init__(self, store: MemoryStore, asked: Callable[[str], None], name: str) -> None:
        super().__init__(store)
        self._asked, self._name = asked, name

    async def adopt(self, instance: Instance, inbound: object) -> None:
        self._asked(self._name)


async def test_a_registry_takes_in_what_it_shows_itself() -> None:
    asked: list[str] = []
    stores = {name: MemoryStore() for name in ("home", "consul")}
    catalogs = {name: Adopting(store, asked.append, name) for name, store in stores.items()}
    placement = Placement(MemoryStore(), catalogs, "a", Lines())
    placement.holdings["consul"].apply(keys.SERVICES, Resync(1, (made.stored(WEB),)))
    await placement.adopt(WEB, WEB.inbound)
    assert asked == ["consul"]


def test_a_holding_follows_selectors_of_any_width() -> None:
    held = Holding("a")
    other = made.instance(service="api", id="api-1")
    foreign = made.instance(node="b")
    assert held.apply("mesh/v1/services/web/", Resync(1, (made.stored(WEB), made.stored(foreign))))
    assert held.apply("mesh/v1/services/api/", Resync(1, (made.stored(other),)))
    assert set(held.instances) == {KEY, other.key}
    assert held.follows(KEY)
    assert not held.follows(made.instance(service="db").key)
    assert not held.apply("mesh/v1/services/api/", Alive(2))
    assert held.apply("mesh/v1/services/api/", Batch(3, (), (made.key(other),)))
    assert not held.apply("mesh/v1/services/web/", Batch(4, (made.entry(STORED + "/x", b""),), ()))
    assert set(held.instances) == {KEY}
    assert held.apply("mesh/v1/services/web/", Lost("refused"))
    assert not held.apply("mesh/v1/services/api/", Lost("refused"))
    assert not held.shows(KEY)
    assert not held.apply("mesh/v1/services/api/", Alive(4))
    assert held.apply("mesh/v1/services/web/", Alive(4)), "contact is back"
    assert held.shows(KEY)


def test_bytes_that_are_no_instance_are_as_good_as_absent() -> None:
    held = Holding("a")
    held.apply(keys.SERVICES, Resync(1, (made.entry(STORED, b"?"),)))
    assert held.instances == {}
