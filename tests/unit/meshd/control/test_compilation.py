"""What is compiled from: endpoints as the fold sees them now, the documents in force, what outlives its instances."""

from typing import Any

from meshd.control.cold_start import State
from meshd.control.compilation import Endpoints
from meshd.control.documents import Documents
from registry import keys
from registry.fold import Fold
from registry.interest import EVERYTHING
from registry.model import Document, Instance
from registry.roster import MAX_ORPHAN
from registry.store import Batch, Entry, Lost, Resync
from registry.values import write
from tests.unit.meshd.conftest import Single
from tests.unit.meshd.control.conftest import Clock


async def test_documents_on_disk_are_in_force_until_the_registry_is_heard(fresh: Single) -> None:
    """A host that restarts while the registry is away would otherwise deny every call."""
    agent, name = fresh.agent, ("service-defaults", "web")
    before = Documents(fresh.host.data / "documents.json")
    before.update({name: Document(kind=name[0], name=name[1], text=b"Protocol: http\n", version=5)})
    before.save()
    agent.load()
    assert agent.compilation.view().documents.keys() == {name}
    agent.cold_start.state = State("too old")
    assert agent.compilation.view().documents == {}  # Registry.OldSnapshot: deny
    agent.cold_start.state = State()
    for prefix in EVERYTHING:
        agent.sync._take(prefix, Resync(1, ()))
    assert agent.compilation.view().documents == {}


def folded(*instances: Instance) -> Fold:
    fold = Fold()
    entries = [
        Entry(key=keys.instance(one.service, one.node, one.id), value=write(one), version=1, created=1)
        for one in instances
    ]
    fold.apply(keys.SERVICES, Resync(1, tuple(entries)), 0.0)
    return fold


def instance(service: str, number: int, **fields: Any) -> Instance:
    return Instance(service=service, node="a", id=str(number), address="10.0.0.1", port=80, **fields)


def test_endpoints_are_folded_when_asked_for() -> None:
    web = instance("web", 1)
    endpoints = Endpoints(folded(web), Clock())
    assert list(endpoints) == ["web"]
    assert len(endpoints) == 1
    assert endpoints["web"][0].instance == web
    assert endpoints["web"] is endpoints["web"]
    assert "absent" not in endpoints
    assert endpoints["absent"] == ()


def test_who_did_not_move_is_the_same_object() -> None:
    fold = folded(instance("web", 1), instance("web", 2))
    endpoints = Endpoints(fold, Clock())
    before = endpoints["web"]
    entry = Entry(key=keys.instance("web", "a", "2"), value=write(instance("web", 2, health="critical")), version=2,
                  created=1)  # fmt: skip
    change = fold.apply(keys.SERVICES, Batch(2, (entry,)), 1.0)
    assert endpoints["web"] is before
    endpoints.touch(change.services)
    assert [one.instance.id for one in endpoints.newcomers()] == ["2"]
    assert endpoints["web"][0] is before[0]
    assert endpoints["web"][1].state == "critical"
    assert list(endpoints.newcomers()) == []


def test_a_registry_out_of_reach_is_a_doubt_about_everybody() -> None:
    """What had ended comes back: nobody can vouch for anything any more."""
    clock = Clock(0.0)
    fold = folded(instance("web", 1))
    endpoints = Endpoints(fold, clock)
    endpoints.touch(fold.apply(keys.SERVICES, Batch(2, (), (keys.instance("web", "a", "1"),)), 0.0).services)
    assert endpoints["web"][0].state == "suspect"
    clock.now = 2 * MAX_ORPHAN
    endpoints.touch(["web"])
    assert endpoints["web"] == ()
    fold.apply(keys.SERVICES, Lost("away"), clock.now)
    assert [one.state for one in endpoints.newcomers()] == ["suspect"]
