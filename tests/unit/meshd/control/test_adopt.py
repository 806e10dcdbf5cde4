"""Twin of `meshd/control/adopt.py`."""

import io
import time

from meshd.control.adopt import Adoption
from meshd.telemetry.log import Log
from registry.catalog import KvCatalog
from registry.errors import Denied, Unavailable
from registry.model import ADOPTED, Address, Instance
from tests.fakes.store import MemoryStore

HERE = Address(address="10.0.0.2", port=15443)


class Foreign(KvCatalog):
    """A catalogue with other tools' services: notes what is asked of it."""

    def __init__(self) -> None:
        super().__init__(MemoryStore())
        self.asked: list[tuple[str, Address | None]] = []
        self.error: Exception | None = None

    async def adopt(self, instance: Instance, inbound: Address | None) -> None:
        self.asked.append((instance.id, inbound))
        if self.error is not None:
            raise self.error


def instance(name: str, *, inbound: Address | None = None, adopted: bool = False) -> Instance:
    meta = {ADOPTED: "true"} if adopted else {}
    return Instance(service=name, node="b", id=name, address="10.0.0.2", port=80, inbound=inbound, meta=meta)


STORED = {
    one.key: one
    for one in (
        instance("foreign"),
        instance("stranger"),
        instance("ours", inbound=HERE),
        instance("done", inbound=HERE, adopted=True),
        instance("moved", inbound=Address(address="10.0.0.9", port=15443), adopted=True),
    )
}


def make(catalog: Foreign) -> tuple[Adoption, io.StringIO]:
    out = io.StringIO()
    return Adoption(catalog, HERE, lambda service: service != "stranger", Log(out, time.time)), out


async def test_what_the_host_is_entitled_to_is_taken_in_once() -> None:
    catalog = Foreign()
    adoption, _ = make(catalog)
    await adoption.take_in(STORED)
    assert catalog.asked == [("foreign", HERE), ("moved", HERE)]


async def test_a_refusal_is_said_once_and_stops_nothing() -> None:
    catalog = Foreign()
    catalog.error = Denied("no service:write")
    adoption, out = make(catalog)
    await adoption.take_in(STORED)
    await adoption.take_in(STORED)
    assert out.getvalue().count("no service:write") == 2, "one line for each of the two"


async def test_all_that_was_adopted_is_let_go_whatever_fails() -> None:
    catalog = Foreign()
    catalog.error = Unavailable("nobody answers")
    adoption, _ = make(catalog)
    await adoption.let_go(STORED)
    assert catalog.asked == [("done", None), ("moved", None)]


async def test_on_other_registries_there_is_nothing_to_adopt() -> None:
    store = MemoryStore()
    await KvCatalog(store).adopt(instance("foreign"), HERE)
    assert (await store.list("")).entries == ()
