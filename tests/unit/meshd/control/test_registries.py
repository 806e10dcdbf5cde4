"""Contact, leases and problems of a host with two registries."""

from pathlib import Path

import pytest

from meshd.control.contact import Contact
from meshd.control.documents import Documents
from meshd.control.health import Runner
from meshd.control.lease import Lease
from meshd.control.register import Facts, Registrar
from meshd.control.registrations import File
from meshd.control.registries import Joined, Parties, Registries, Seen, Standing
from meshd.tasks import Tasks
from registry import keys
from registry.api.registration import Registration
from registry.catalog import KvCatalog
from registry.fold import Fold
from registry.interest import hosting
from registry.model import Address, CheckResult, InstanceKey, Node
from registry.placement import Placement
from registry.store import Alive, Batch, Lost, Resync
from tests.fakes.store import MemoryStore
from tests.unit.meshd.control.conftest import Clock, Lines
from tests.unit.registry import made

NODE = Node(name="a", address="10.0.0.1", inbound_port=15443)
LEASE = made.entry(keys.lease("a"), b"{}")


class Bench:
    """Two registries, whose watches a test plays; `changes` counts what was told."""

    def __init__(self, folder: Path, clock: Clock, log: Lines) -> None:
        stores = {name: MemoryStore() for name in ("home", "etcd")}
        catalogs = {name: KvCatalog(store) for name, store in stores.items()}
        self.placement = Placement(stores["home"], catalogs, "a", log)
        joined = tuple(Joined(name, "etcd", store, Contact()) for name, store in stores.items())  # type: ignore[arg-type] - a store without locks
        self.registries = Registries(joined, self.placement, "union", "a", clock)
        self.registries.on_change = self.changed
        self.changes = 0
        self.home = Lease(stores["home"], NODE, 10.0, folder / "lease", log)
        self.further = self.registries.leases(self.home, NODE, 10.0, folder, log)

    def changed(self) -> None:
        self.changes += 1


@pytest.fixture
def bench(tmp_path: Path, clock: Clock, log: Lines) -> Bench:
    return Bench(tmp_path, clock, log)


def test_contact_is_that_of_all_watches_of_a_registry(bench: Bench, clock: Clock) -> None:
    told = bench.registries.heard
    told("etcd", keys.SERVICES, Resync(1, ()))
    told("etcd", keys.LEASES, Lost("refused"))
    assert bench.registries.seen("etcd") == Seen("refused", 1000.0)
    assert bench.registries.contacts() == {"home": "", "etcd": "refused"}
    clock.now += 5
    told("etcd", keys.LEASES, Alive(2))
    assert bench.registries.seen("etcd") == Seen("", 1005.0)
    assert bench.registries.seen("home") == Seen("", -1.0)
    assert bench.changes == 2


def test_what_a_registry_holds_of_this_host_is_told(bench: Bench) -> None:
    told = bench.registries.heard
    told("etcd", keys.SERVICES, Resync(1, (made.stored(made.instance()), made.stored(made.instance(node="b")))))
    assert list(bench.placement.holdings["etcd"].instances) == [made.instance().key]
    told("etcd", keys.SERVICES, Batch(2, (made.stored(made.instance(node="b", id="x")),)))
    assert bench.changes == 1


@pytest.mark.parametrize(
    ("event", "missed"),
    [
        (Resync(1, ()), True),
        (Resync(1, (LEASE,)), False),
        (Batch(2, (), (keys.lease("a"),)), True),
        (Batch(2, (), (keys.lease("b"),)), False),
        (Alive(2), False),
    ],
)
def test_a_lease_that_one_registry_has_lost_is_put_again_there(bench: Bench, event: object, missed: bool) -> None:
    for name, lease in (("home", bench.home), ("etcd", bench.further["etcd"])):
        bench.registries.heard(name, keys.LEASES, event)  # type: ignore[arg-type] - events of a watch
        assert not lease._lost.is_set(), "there is none yet"
        lease.id = "1"
        bench.registries.heard(name, keys.LEASES, event)  # type: ignore[arg-type] - events of a watch
        assert lease._lost.is_set() is missed


def test_further_leases_have_files_of_their_own(bench: Bench, tmp_path: Path) -> None:
    assert list(bench.further) == ["etcd"]
    assert bench.further["etcd"]._remembered == tmp_path / "lease-etcd"


class Host:
    """The parts of a host that Standing reads: it follows the documents of `web`, and serves it."""

    def __init__(self, folder: Path, log: Lines, clock: Clock) -> None:
        self.fold = Fold(hosting("web"))
        self.documents = Documents(folder / "documents.json")
        tasks = Tasks("test", log)
        facts = Facts("a", "10.0.0.1", "127.0.0.1", Address(address="10.0.0.1", port=1), "1", False, lambda _: True)
        catalog = KvCatalog(MemoryStore())
        runner = Runner(tasks, self.report, lambda: 0.0)
        self.registrar = Registrar(facts, catalog, File(folder / "r.json"), runner, log, clock)
        self.parties = Parties(self.fold, self.documents, self.registrar)

    async def report(self, key: InstanceKey, result: CheckResult) -> None:
        """There are no checks."""

    def defaults(self, text: bytes) -> None:
        entry = made.entry(keys.policy("service-defaults", "web"), text)
        for selector in hosting("web"):
            entries = (entry,) if selector == entry.key else ()
            self.fold.apply(selector, Resync(2, entries), 0.0)
        self.documents.update(self.fold.documents)


async def test_a_place_is_known_when_the_services_documents_are(
    tmp_path: Path, log: Lines, clock: Clock, bench: Bench
) -> None:
    host = Host(tmp_path, log, clock)
    standing = Standing(host.parties, "home", bench.registries)
    assert standing.places("web") is None
    host.defaults(b"Registries: [home, etcd]")
    assert standing.places("web") == bench.placement.places("web") == ("home", "etcd")
    host.defaults(b"Protocol: http")
    assert standing.places("web") == ()
    assert standing.places("api") is None, "not followed"
    assert host.registrar.settle == bench.placement.settle


async def test_places_that_have_moved_are_told_once(tmp_path: Path, log: Lines, clock: Clock) -> None:
    host = Host(tmp_path, log, clock)
    standing = Standing(host.parties, "home", None)
    await host.registrar.register(Registration(service="web", id="1", port=80), replace_checks=False)
    assert (standing.moved(), standing.moved()) == (True, False)
    host.defaults(b"Registries: [etcd]")
    assert (standing.moved(), standing.moved()) == (True, False)


async def test_names_that_a_host_does_not_have_are_problems(tmp_path: Path, log: Lines, clock: Clock) -> None:
    host = Host(tmp_path, log, clock)
    standing = Standing(host.parties, "home", None)
    host.defaults(b"Registries: [home, old]")
    assert standing.misplaced() == (), "no instance of it is here"
    await host.registrar.register(Registration(service="web", id="1", port=80), replace_checks=False)
    (found,) = standing.misplaced()
    assert "service-defaults of web: this host has no registry old (it has home)" in found


def test_a_single_registrys_contact_is_the_folds(tmp_path: Path, log: Lines, clock: Clock) -> None:
    host = Host(tmp_path, log, clock)
    standing = Standing(host.parties, "home", None)
    assert standing.contacts() == {"home": ""}
    host.fold.apply(keys.policy("service-defaults", "web"), Lost("refused"), 0.0)
    assert standing.contacts() == {"home": "refused"}


def test_what_only_the_home_registry_keeps_counts_for_its_contact(
    tmp_path: Path, log: Lines, clock: Clock, bench: Bench
) -> None:
    host = Host(tmp_path, log, clock)
    standing = Standing(host.parties, "home", bench.registries)
    for reason, shown in (("Denied: no right", ""), ("refused", "refused")):
        host.fold.apply(keys.policy("service-defaults", "web"), Lost(reason), 0.0)
        assert standing.contacts() == {"home": shown, "etcd": ""}
