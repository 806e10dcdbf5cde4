"""What is compiled from: endpoints as the fold sees them now, the documents in force, what outlives its instances."""

from meshd.control.cold_start import State
from meshd.control.compilation import Endpoints
from meshd.control.documents import Documents
from registry import keys
from registry.fold import Fold
from registry.interest import EVERYTHING
from registry.model import Document, Instance
from registry.store import Entry, Resync
from registry.values import write
from tests.unit.meshd.conftest import Single


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


def test_endpoints_are_folded_when_asked_for() -> None:
    fold = Fold()
    web = Instance(service="web", node="a", id="1", address="10.0.0.1", port=80)
    key = keys.instance("web", "a", "1")
    fold.apply(keys.SERVICES, Resync(1, (Entry(key=key, value=write(web), version=1, created=1),)), 0.0)
    endpoints = Endpoints(fold, 0.0)
    assert list(endpoints) == ["web"]
    assert len(endpoints) == 1
    assert endpoints["web"][0].instance == web
    assert endpoints.get("absent") is None
