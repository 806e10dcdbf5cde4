"""Which documents apply, in which order, and what a host has to know."""

from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_intentions import ServiceIntentions
from policies.select import Index, by_precedence, closure
from tests.unit.policies.build import document, documents

ALLOW = "Sources: [{Name: web, Action: allow}]"
UNTIL = "Until: 2026-12-01T18:00:00Z\nDelay: {Fixed: 1s}"


def test_exact_before_the_longer_prefix_before_all() -> None:
    said = documents(
        ("service-defaults", "*", "{Protocol: tcp}"),
        ("service-defaults", "web-*", "{Protocol: tcp}"),
        ("service-defaults", "web-api-*", "{Protocol: tcp}"),
        ("service-defaults", "web-api-1", "{Protocol: http}"),
        ("service-intentions", "web-api-1", ALLOW),
    )
    index = Index(said)
    assert index.names("service-defaults", "web-api-1") == ("web-api-1", "web-api-*", "web-*", "*")
    for service, name in (("web-api-1", "web-api-1"), ("web-api-2", "web-api-*"), ("web-x", "web-*"), ("x", "*")):
        found = index.find(ServiceDefaults, service)
        assert found is not None
        assert found.name == name
    assert Index({}).find(ServiceDefaults, "web") is None


def test_all_intentions_apply_and_unreadable_ones_keep_their_place() -> None:
    said = documents(("service-intentions", "*", ALLOW), ("service-intentions", "web", ALLOW))
    index = Index(said, [("service-intentions", "we*")])
    found = index.intentions("web")
    assert [(name, document is None) for name, document in found] == [("web", False), ("we*", True), ("*", False)]


def test_exact_sources_before_all_in_any_order() -> None:
    text = "Sources: [{Name: '*', Action: deny}, {Name: a, Action: allow}, {Name: b, Action: allow}]"
    intentions = document("service-intentions", "api", text)
    assert isinstance(intentions, ServiceIntentions)
    assert [(i, source.name) for i, source in by_precedence(intentions)] == [(1, "a"), (2, "b"), (0, "*")]


def test_faults_of_a_service_by_name() -> None:
    said = documents(
        ("fault", "z", f"Service: api\n{UNTIL}"),
        ("fault", "a", f"Service: api\n{UNTIL}"),
        ("fault", "other", f"Service: web\n{UNTIL}"),
    )
    assert [fault.name for fault in Index(said).faults("api")] == ["a", "z"]


def test_the_mesh_document() -> None:
    assert Index({}).mesh() is None
    mesh = Index(documents(("mesh", "mesh", "ExplainDenials: true"))).mesh()
    assert mesh is not None
    assert mesh.explain_denials


def test_closure_follows_routers_and_splitters() -> None:
    said = documents(
        ("service-router", "web", "Routes: [{Destination: {Service: api}}, {Destination: {Service: old}}, {}]"),
        ("service-splitter", "api", "Splits: [{Weight: 50}, {Weight: 50, Service: next}]"),
        ("service-router", "next", "Routes: [{Destination: {Service: web}}]"),
        ("service-splitter", "elsewhere", "Splits: [{Weight: 100, Service: far}]"),
    )
    assert closure(said, frozenset({"web"})) == {"web", "api", "old", "next"}
    assert closure(said, frozenset({"next"})) == {"next", "web", "api", "old"}
    assert closure(said, frozenset()) == frozenset()
    assert closure({}, frozenset({"x"})) == {"x"}
