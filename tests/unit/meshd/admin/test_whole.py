"""The whole mesh, read when somebody asks."""

import pytest

from meshd.admin import explain, whole
from policies.compiled import Inbound, Routes
from registry import interest, keys, values
from registry.errors import Unavailable
from registry.model import Address, Instance
from tests.unit.meshd.conftest import Single, until

FAR = Instance(
    service="far", node="b", id="1", address="10.0.0.2", port=80, inbound=Address(address="10.0.0.2", port=15443)
)
FAR_KEY = keys.instance("far", "b", "1")


async def elsewhere(single: Single) -> None:
    """A service that the host neither calls nor hosts, with documents of its own."""
    await single.store.put(FAR_KEY, values.write(FAR))
    await single.store.put(keys.lease("b"), b"")
    await single.store.put(keys.policy("service-splitter", "far"), b"Splits: [{Weight: 100, Service: farther}]")
    await single.store.put(keys.policy("service-intentions", "far"), b"Sources: [{Name: web, Action: allow}]")
    await until("the lease is seen", lambda: "b" in single.agent.fold.leases)


async def test_what_is_not_followed_is_read_and_not_subscribed_to(single: Single) -> None:
    await elsewhere(single)
    seen = await whole.read(single.agent, keys.SERVICES, keys.POLICY, hosts=True)
    assert seen.missing == ""
    assert "far" in seen.services
    assert [one.state for one in seen.endpoints("far")] == ["passing"]
    assert ("service-splitter", "far") in seen.documents
    assert set(seen.nodes) == {"a"}
    assert "far" not in single.agent.fold.services
    assert interest.endpoints("far") not in single.agent.watcher.wanted


async def test_a_host_without_a_lease_is_doubted_here_too(single: Single) -> None:
    await elsewhere(single)
    await single.store.delete(keys.lease("b"))
    await until("the lease is gone", lambda: "b" not in single.agent.fold.leases)
    seen = await whole.read(single.agent, keys.SERVICES)
    assert [one.state for one in seen.endpoints("far")] == ["suspect"]


async def test_what_is_followed_is_shown_as_this_host_sees_it(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    other = Instance(service="web", node="b", id="2", address="10.0.0.2", port=80, inbound=FAR.inbound)
    await single.store.put(keys.instance("web", "b", "2"), values.write(other))
    await until("known", lambda: len(single.agent.fold.instances) == 2)
    await single.store.delete(keys.instance("web", "b", "2"))
    await until("missed", lambda: single.agent.fold.vanished)
    seen = await whole.read(single.agent, keys.SERVICES)
    assert [one.instance.id for one in seen.endpoints("web")] == ["web-1", "2"]


async def test_while_the_registry_is_away_there_is_what_is_followed_and_that_is_said(
    single: Single, monkeypatch: pytest.MonkeyPatch
) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("known", lambda: single.agent.fold.services)

    async def away(prefix: str) -> object:
        raise Unavailable("nobody\nanswers")

    monkeypatch.setattr(single.agent.store, "list", away)
    seen = await whole.read(single.agent, keys.SERVICES, hosts=True)
    assert seen.services == {"web"}
    assert seen.headers[whole.HEADER].endswith("shown is what this host follows: nobody answers")
    status, rows = await single.call("GET", "/v1/mesh/services")
    assert (status, [row["name"] for row in rows]) == (200, ["web"])
    _, body = await single.call("GET", "/v1/mesh/status")
    assert [row["name"] for row in body["nodes"]] == ["a"]


async def test_all_that_decides_about_a_service_is_found(single: Single) -> None:
    await elsewhere(single)
    sight = await whole.around(single.agent, frozenset({"far"}))
    assert ("service-splitter", "far") in sight.view.documents
    assert [one.key for one in sight.instances] == [FAR.key]
    assert "farther" in {leg.service for leg in _routes(sight, "far").rules[-1].legs}
    inbound = [one for one in explain.resources(sight.view, sight.instances, "far") if isinstance(one, Inbound)]
    assert [one.name for one in inbound if one.service == "far"] == ["far/b/1"]


async def test_a_document_that_is_not_written_yet_leads_further(single: Single) -> None:
    await elsewhere(single)
    planned = whole.parse("service-router", "near", b"Routes: [{Destination: {Service: far}}]", version=0).document
    assert planned is not None
    sight = await whole.around(single.agent, frozenset({"near"}), {("service-router", "near"): planned})
    assert ("service-splitter", "far") in sight.view.documents
    assert ("service-router", "near") not in sight.view.documents


def _routes(sight: whole.Sight, service: str) -> Routes:
    found = explain.resources(sight.view, sight.instances, service)
    return next(one for one in found if isinstance(one, Routes) and one.name == service)
