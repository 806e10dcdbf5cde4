"""Registries over the admin API of one host: with the one it has, and with a second beside it."""

from collections.abc import AsyncIterator
from pathlib import Path

import msgspec
import pytest

from meshd.admin import shapes
from meshd.admin.registries import differing, fields, staleness
from meshd.control.contact import Contact
from meshd.control.registries import Joined, Parties, Registries, Standing
from registry import keys
from registry.backends.sqlite import SqliteStore
from registry.catalog import KvCatalog
from registry.placement import Placement
from registry.store import Lost, Resync
from tests.unit.meshd.conftest import Single, until
from tests.unit.registry import made

ROUTE = "/v1/mesh/registries"


@pytest.fixture
async def second(single: Single, tmp_path: Path) -> AsyncIterator[SqliteStore]:
    """A store named `etcd` beside the home one, for what is read; this host registers at home as before."""
    store = SqliteStore.open(tmp_path / "second.db")
    agent = single.agent
    joined = (
        Joined("home", "sqlite", single.store, agent.around.contact),
        Joined("etcd", "etcd", store, Contact()),
    )
    catalogs = {one.name: KvCatalog(one.store) for one in joined}
    placement = Placement(single.store, catalogs, "a", single.log)
    agent.registries = Registries(joined, placement, "union", "a", agent.around.clock)
    agent.standing = Standing(Parties(agent.fold, agent.documents, agent.registrar), "home", agent.registries)
    agent.registrar.settle = None  # it registers at home as before
    yield store
    await store.close()


async def put(store: SqliteStore, *ids: str, service: str = "web", **more: object) -> None:
    for one in ids:
        instance = msgspec.structs.replace(made.instance(service=service, id=one), **more)
        await store.put(made.key(instance), made.stored(instance).value)


async def test_one_registry_is_listed_too(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    status, rows = await single.call("GET", ROUTE)
    (row,) = msgspec.convert(rows, list[shapes.RegistryRow])
    assert status == 200
    assert (row.name, row.kind, row.home, row.reachable, row.instances, row.services) == (
        "home",
        "sqlite",
        True,
        True,
        1,
        1,
    )
    assert 0 <= row.last_event_age < 60


async def test_one_that_is_away_counts_with_what_was_last_known(single: Single, second: SqliteStore) -> None:
    known = single.agent.registries
    assert known is not None
    known.heard("etcd", keys.SERVICES, Lost("refused"))
    known.last_known = lambda name: frozenset({"web/a/1", "web/a/2", "api/a/1"})
    _, rows = await single.call("GET", ROUTE)
    row = msgspec.convert(rows, list[shapes.RegistryRow])[1]
    assert (row.reachable, row.reason, row.instances, row.services, row.home) == (False, "refused", 3, 2, False)
    known.heard("etcd", keys.SERVICES, Lost("refused"))
    del known._lost["etcd", keys.SERVICES]
    await second.close()
    _, rows = await single.call("GET", ROUTE)
    assert not rows[1]["reachable"], "asked now, it does not answer"


async def test_what_is_lost_and_what_cannot_be_placed_are_warnings(single: Single, second: SqliteStore) -> None:
    known = single.agent.registries
    assert known is not None
    known.heard("etcd", keys.SERVICES, Lost("refused"))
    await single.register(Name="web", ID="web-1", Port=80)
    await single.apply("Kind: service-defaults\nName: web\nRegistries: [home, elsewhere]\n")
    await until("in force", lambda: ("service-defaults", "web") in single.agent.documents.good)
    _, body = await single.call("GET", "/v1/mesh/status")
    shown = msgspec.convert(body, shapes.Status)
    assert shown.registry.reachable, "the home registry is"
    assert any("registry etcd is out of contact" in one and "refused" in one for one in shown.warnings)
    assert any("this host has no registry elsewhere" in one for one in shown.warnings)


async def test_services_of_a_lost_registry_are_as_old_as_its_last_word(single: Single, second: SqliteStore) -> None:
    known = single.agent.registries
    assert known is not None
    known.heard("etcd", keys.SERVICES, Resync(1, ()))
    assert staleness(single.agent, {"web": 0.5}) == {"web": 0.5}
    known.heard("etcd", keys.SERVICES, Lost("refused"))
    known.last_known = lambda name: frozenset({"web/a/1"})
    known._heard["etcd"] = single.agent.around.clock() - 60
    found = staleness(single.agent, {"web": 0.5, "api": 0.5})
    assert found["web"] >= 60
    assert found["api"] == 0.5


async def test_a_difference_is_told_by_instance(single: Single, second: SqliteStore) -> None:
    await put(single.store, "same", "home", "other")
    await put(second, "same", "etcd")
    await put(second, "other", port=9)
    await second.put(keys.instance("web", "a", "unreadable"), b"?")
    _, body = await single.call("GET", f"{ROUTE}/diff?a=home&b=etcd")
    found = msgspec.convert(body, shapes.RegistryDiff)
    assert found.same == 1
    assert [(one.instance, one.only, one.fields) for one in found.rows] == [
        ("web/a/etcd", "b", ()),
        ("web/a/home", "a", ()),
        ("web/a/other", "", ("Port",)),
    ]
    status, body = await single.call("GET", f"{ROUTE}/diff?a=home&b=consul")
    assert (status, "no registry 'consul'" in body["error"]) == (404, True)


async def test_placement_names_where_instances_stand_and_who_could_not_follow(
    single: Single, second: SqliteStore
) -> None:
    await put(single.store, "1", state="withdrawn")
    await put(second, "1")
    await put(second, "2", inbound=None)
    await single.apply("Kind: service-defaults\nName: '*'\nRegistries: [home, etcd]\n")
    await until("reported", lambda: single.agent.publisher._written)
    _, body = await single.call("GET", f"{ROUTE}/placement/web")
    found = msgspec.convert(body, shapes.ServicePlacement)
    first, foreign = found.instances
    assert (first.standing, first.withdrawn, first.foreign) == (("etcd",), ("home",), ())
    assert (foreign.name, foreign.foreign) == ("web/a/2", ("etcd",))
    assert (found.named, found.document, found.registries) == (("home", "etcd"), "*", ("home", "etcd"))
    assert set(found.hosts) | set(found.silent) == {"a"}
    assert (await single.call("GET", f"{ROUTE}/placement/a%20b"))[0] == 400


async def test_placing_keeps_the_rest_of_the_document_and_its_history(single: Single, second: SqliteStore) -> None:
    await single.apply("Kind: service-defaults\nName: '*'\nProtocol: http\n")
    await until("in force", lambda: ("service-defaults", "*") in single.agent.documents.good)
    status, body = await single.call("POST", f"{ROUTE}/placement/web", {"registries": ["home", "etcd", "home"]})
    assert status == 200, body
    applied = msgspec.convert(body, shapes.ApplyResult).applied[0]
    entry = await single.store.get(keys.policy("service-defaults", "web"))
    assert entry is not None
    assert entry.value == b"Kind: service-defaults\nProtocol: http\nRegistries: [home, etcd]\n"
    assert await single.store.get(keys.history("service-defaults", "web", applied.version)) is not None
    again = (await single.call("POST", f"{ROUTE}/placement/web", {"registries": ["home", "etcd"]}))[1]
    assert not msgspec.convert(again, shapes.ApplyResult).applied[0].changed


async def test_who_writes_between_reading_and_writing_wins(
    single: Single, second: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = keys.policy("service-defaults", "web")
    read = single.store.get

    async def get(name: str) -> object:
        found = await read(name)
        if name == key:
            await single.store.put(key, b"Protocol: http\n")
        return found

    monkeypatch.setattr(single.store, "get", get)
    status, body = await single.call("POST", f"{ROUTE}/placement/web", {"registries": ["home"]})
    assert (status, "somebody else wrote" in body["error"]) == (409, True)
    entry = await read(key)
    assert entry is not None
    assert entry.value == b"Protocol: http\n"


@pytest.mark.parametrize(
    ("body", "status", "reason"),
    [
        ({"registries": ["home", "elsewhere"]}, 404, "no registry 'elsewhere'"),
        ({"registries": []}, 400, "a list of names"),
        ({"names": ["home"]}, 400, "a list of names"),
    ],
)
async def test_what_cannot_be_placed(
    single: Single, second: SqliteStore, body: dict[str, list[str]], status: int, reason: str
) -> None:
    found = await single.call("POST", f"{ROUTE}/placement/web", body)
    assert (found[0], reason in found[1]["error"]) == (status, True)


def test_fields_are_named_as_they_are_stored() -> None:
    one = made.instance()
    assert fields(one, msgspec.structs.replace(one, tags=("v2",), health="critical")) == ("Health", "Tags")
    assert differing({"web/a/1": one}, {"web/a/1": one}) == ()
