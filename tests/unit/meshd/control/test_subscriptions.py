"""What is followed, what lingers, and what waits until it is known."""

from collections.abc import Awaitable, Callable
from pathlib import Path

import msgspec
import pytest

from meshd.control.documents import Documents
from meshd.control.subscriptions import HOLD, LINGER, NEED, Followed, Subscriptions
from registry import interest, keys
from registry.fold import Fold
from registry.interest import BASE
from registry.model import Document, Instance, Mesh, Upstream
from registry.store import Entry, Lost, Resync
from registry.watch import Watcher
from tests.fakes.clock import Clock
from tests.fakes.store import MemoryStore


class Hosts:
    """A registrar as far as subscriptions read it."""

    def __init__(self) -> None:
        self.local: tuple[Instance, ...] = ()

    @property
    def hosted(self) -> frozenset[str]:
        return frozenset(one.service for one in self.local)


class Watching:
    """A follower that was started and does nothing."""

    def cancel(self) -> bool:
        return True


def start(name: str, run: Callable[[], Awaitable[None]]) -> Watching:
    return Watching()


class Bench:
    def __init__(self, folder: Path, *, all_policy: bool = False, budget: int | None = None) -> None:
        self.clock = Clock()
        self.stored: dict[tuple[str, str], Document] = {}
        self.fold, self.hosts = Fold(BASE), Hosts()
        self.documents = Documents(folder / "documents.json")
        self.watcher = Watcher(MemoryStore(), start)
        parts = Followed(self.fold, self.watcher, self.documents, self.hosts)  # type: ignore[arg-type]  # as it is read
        self.subs = Subscriptions(parts, self.clock.time, all_policy=all_policy, budget=budget)

    def calls(self, *services: str) -> None:
        upstreams = tuple(Upstream(service=name, local_bind_port=9000 + n) for n, name in enumerate(services))
        web = Instance(service="web", node="a", id="1", address="10.0.0.1", port=80, mesh=Mesh(upstreams=upstreams))
        self.hosts.local = (web,)
        self.moved()

    def moved(self) -> None:
        self.subs.moved()
        self.subs.refresh()

    def write(self, kind: str, name: str, text: str) -> None:
        self.stored = {
            **getattr(self, "stored", {}),
            (kind, name): Document(kind=kind, name=name, version=1, text=text.encode()),
        }
        self.documents.update(self.stored)
        self.moved()

    def leads(self, service: str, *targets: str) -> None:
        parts = ", ".join(f"{{Weight: {100 / len(targets)}, Service: {target}}}" for target in targets)
        self.write("service-splitter", service, f"Splits: [{parts}]")

    def lists(self, *selectors: str) -> None:
        """The store lists these; without any, all that is wanted."""
        for selector in selectors or sorted(self.fold.wanted):
            self.fold.apply(selector, Resync(1, ()), self.clock.now)
        self.subs.refresh()

    def begin(self, *services: str) -> None:
        self.calls(*services)
        self.lists()
        self.subs.begun = True
        self.subs.refresh()

    @property
    def split(self) -> bool:
        return ("service-splitter", "api") in self.subs.documents()

    @property
    def called(self) -> list[str]:
        return [up.service for one in self.subs.local() for up in one.mesh.upstreams]


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def test_what_is_called_and_hosted_is_followed_with_the_closure(bench: Bench) -> None:
    bench.calls("api")
    assert bench.subs.interest.called == {"api"}
    assert bench.subs.interest.hosted == {"web"}
    bench.leads("api", "api-v2")
    assert bench.subs.interest.called == {"api", "api-v2"}
    assert bench.fold.wanted == bench.watcher.wanted
    assert bench.fold.wanted >= interest.calling("api-v2") | interest.hosting("web") | BASE


def test_nothing_is_held_back_before_the_first_configuration(bench: Bench) -> None:
    bench.calls("api")
    bench.leads("api", "api-v2")
    assert bench.split
    assert bench.called == ["api"]
    assert not bench.subs.held


def test_a_document_waits_until_what_it_leads_to_is_known(bench: Bench) -> None:
    bench.begin("api")
    bench.leads("api", "api-v2")
    assert bench.subs.held == {("service-splitter", "api")}
    assert not bench.split
    bench.lists(*interest.calling("api-v2") - {interest.endpoints("api-v2")})
    assert not bench.split, "its endpoints are not"
    bench.lists(interest.endpoints("api-v2"))
    assert bench.split
    assert not bench.subs.held


def test_a_document_that_changes_keeps_its_version_in_force_meanwhile(bench: Bench) -> None:
    bench.begin("api")
    bench.leads("api", "one")
    bench.lists()
    bench.leads("api", "two")
    before = bench.subs.documents()["service-splitter", "api"]
    assert before is not bench.documents.good["service-splitter", "api"]
    assert bench.subs.interest.called >= {"one", "two"}
    bench.lists()
    assert bench.subs.documents()["service-splitter", "api"] is bench.documents.good["service-splitter", "api"]


def test_only_the_documents_that_lead_there_wait(bench: Bench) -> None:
    bench.begin("api", "db")
    bench.write("service-defaults", "api", "Protocol: http")
    bench.leads("api", "new")
    bench.leads("db", "db", "api")
    assert bench.subs.held == {("service-splitter", "api")}
    assert ("service-splitter", "db") in bench.subs.documents()
    assert ("service-defaults", "api") in bench.subs.documents()


def test_a_deletion_that_uncovers_a_pattern_waits_for_where_that_leads(bench: Bench) -> None:
    bench.begin("api")
    bench.leads("a*", "far")
    bench.leads("api", "api")
    assert bench.split
    assert not bench.fold.known(interest.endpoints("far"))
    del bench.stored["service-splitter", "api"]
    bench.documents.update(bench.stored)
    bench.moved()
    assert bench.subs.interest.called == {"api", "far"}
    assert bench.split, "still in force"
    bench.lists()
    assert not bench.split


def test_while_the_store_answers_nothing_waits_longer_than_a_bound(bench: Bench) -> None:
    bench.begin("api")
    bench.leads("api", "far")
    bench.fold.apply(interest.endpoints("far"), Lost("Denied: no right"), bench.clock.now)
    due = bench.subs.next_deadline()
    assert due == bench.clock.now + HOLD
    bench.clock.now = due
    bench.subs.refresh()
    assert bench.split


def test_while_the_store_is_lost_the_last_good_stays(bench: Bench) -> None:
    bench.begin("api")
    bench.fold.apply(keys.LEASES, Lost("gone"), bench.clock.now)
    bench.leads("api", "far")
    bench.clock.now += 100 * HOLD
    bench.subs.refresh()
    assert not bench.split
    bench.lists()
    assert bench.split


def test_a_new_upstream_opens_when_it_is_known_or_has_waited_long_enough(bench: Bench) -> None:
    bench.begin("api")
    bench.calls("api", "db")
    assert bench.called == ["api"]
    bench.lists()
    assert bench.called == ["api", "db"]
    bench.fold.apply(keys.LEASES, Lost("gone"), bench.clock.now)
    bench.calls("api", "db", "far")
    assert bench.called == ["api", "db"]
    bench.clock.now += HOLD
    bench.subs.refresh()
    assert bench.called == ["api", "db", "far"], "its callers get a 503 that says why, not a refused connection"


def test_a_new_instance_is_let_in_when_its_intentions_are_known_however_long_that_takes(bench: Bench) -> None:
    bench.begin()
    extra = msgspec.structs.replace(bench.hosts.local[0], service="extra")
    bench.hosts.local = (*bench.hosts.local, extra)
    bench.moved()
    bench.clock.now += 100 * HOLD
    bench.subs.refresh()
    assert [one.service for one in bench.subs.local()] == ["web"]
    bench.lists()
    assert [one.service for one in bench.subs.local()] == ["web", "extra"]


def test_what_is_wanted_no_more_lingers(bench: Bench) -> None:
    bench.begin("api")
    wanted = bench.fold.wanted
    bench.calls()
    assert bench.fold.wanted == wanted
    assert bench.subs.next_deadline() == bench.clock.now + LINGER
    bench.clock.now += LINGER / 2
    bench.calls("api")
    bench.clock.now += LINGER
    bench.subs.refresh()
    assert bench.fold.wanted == wanted, "declared again"
    bench.calls()
    bench.clock.now += LINGER
    bench.subs.refresh()
    assert interest.endpoints("api") not in bench.watcher.wanted
    assert bench.subs.next_deadline() is None


def test_a_service_first_asked_for_later_is_followed_while_it_is_asked_for(bench: Bench) -> None:
    bench.begin()
    woken: list[bool] = []
    bench.subs.on_change = lambda: woken.append(True)
    bench.subs.need("api")
    bench.subs.need("no name")
    bench.subs.refresh()
    assert woken == [True]
    assert bench.subs.interest.called == {"api"}
    assert bench.subs.wanted == frozenset(), "not known yet"
    bench.lists()
    assert bench.subs.wanted == {"api"}
    bench.clock.now += NEED / 2
    bench.subs.need("api")
    bench.clock.now += NEED / 2
    bench.subs.refresh()
    assert bench.subs.wanted == {"api"}
    bench.clock.now += NEED
    bench.subs.refresh()
    assert bench.subs.interest.called == frozenset()


def test_a_host_with_a_role_follows_all_documents(tmp_path: Path) -> None:
    bench = Bench(tmp_path, all_policy=True)
    bench.calls("api")
    assert bench.fold.wanted == BASE | {keys.POLICY, interest.endpoints("api"), interest.endpoints("web")}


def test_where_watches_are_dear_a_host_stays_below_its_budget(tmp_path: Path) -> None:
    bench = Bench(tmp_path, budget=20)
    bench.begin("api", "database")
    assert keys.POLICY in bench.fold.wanted
    assert len(bench.fold.wanted) <= 20
    bench.leads("api", "far")
    assert bench.subs.held
    bench.lists(interest.endpoints("far"))
    assert bench.split, "its documents came with all others"


def test_instances_are_taken_in_where_the_watch_is_new(bench: Bench) -> None:
    bench.begin("api")
    entry = Entry(key=keys.instance("api", "b", "1"), value=b"{", version=1, created=1)
    bench.fold.apply(interest.endpoints("api"), Resync(2, (entry,)), bench.clock.now)
    assert entry.key in bench.fold.problems
