"""Local instances: how they are reached, and by whom."""

import pytest

from policies.compile import compile_host
from policies.compiled import Inbound, Match, Permission, Permissions, Source
from registry import model
from registry.ca import names
from tests.unit.policies.build import HTTP, inbound, instance, view

WEB = ("service-defaults", "api", HTTP)
API = instance("api", "a", mesh=model.Mesh(protocol="http"))
RAW = instance("api", "a")


def test_without_documents() -> None:
    assert inbound(RAW) == Inbound(
        name="api/a/api-1",
        service="api",
        app="10.0.0.1:8080",
        sni=names.sni("spiffe://mesh.local/svc/api/n/a/i/api-1"),
    )
    assert inbound(API).protocol == "http"


def test_service_defaults() -> None:
    text = "Protocol: http\nMaxInboundConnections: 7\nLocalConnectTimeoutMs: 250\nLocalRequestTimeout: 3s"
    found = inbound(RAW, ("service-defaults", "api", text))
    assert (found.protocol, found.max_connections, found.connect_timeout_ms, found.request_timeout_ms) == (
        "http",
        7,
        250,
        3000,
    )


L7 = """
Sources:
  - {Name: "*", Action: deny}
  - Name: web
    Permissions:
      - {Action: deny, HTTP: {PathExact: /secret}}
      - {Action: allow, HTTP: {PathPrefix: /}}
"""


def test_permissions_by_precedence_with_their_origins() -> None:
    assert inbound(API, ("service-intentions", "api", L7)).permissions == Permissions(
        sources=(
            Source(
                name="web",
                origin="service-intentions/api#Sources[1]@1",
                permissions=(
                    Permission(
                        action="deny",
                        origin="service-intentions/api#Sources[1].Permissions[0]@1",
                        match=Match(path_exact="/secret"),
                    ),
                    Permission(
                        action="allow",
                        origin="service-intentions/api#Sources[1].Permissions[1]@1",
                        match=Match(path_prefix="/"),
                    ),
                ),
            ),
            Source(name="*", origin="service-intentions/api#Sources[0]@1", action="deny"),
        )
    )


def test_layer_seven_rules_on_tcp_deny() -> None:
    """An L7 deny of a tcp service became an allow once (GO-2022-0895): here all of that source is denied."""
    said = ("service-intentions", "api", L7)
    sources = inbound(RAW, said).permissions.sources
    assert [(source.name, source.action, source.permissions) for source in sources] == [
        ("web", "deny", ()),
        ("*", "deny", ()),
    ]
    (problem,) = compile_host(view(said, local=(RAW,))).problems
    assert (problem.kind, problem.path) == ("service-intentions", "Sources[1]")


def test_the_exact_document_before_patterns() -> None:
    found = inbound(
        API,
        ("service-intentions", "*", "Sources: [{Name: web, Action: deny}, {Name: ops, Action: allow}]"),
        ("service-intentions", "api", "Sources: [{Name: web, Action: allow}]"),
        ("service-intentions", "ap*", "Sources: [{Name: '*', Action: deny}]"),
    )
    assert [(source.name, source.action, source.origin.partition("#")[0]) for source in found.permissions.sources] == [
        ("web", "allow", "service-intentions/api"),
        ("*", "deny", "service-intentions/ap*"),
        ("web", "deny", "service-intentions/*"),
        ("ops", "allow", "service-intentions/*"),
    ]


@pytest.mark.parametrize(
    ("text", "forbidden", "expected"),
    [
        ("DefaultIntention: allow", False, ("allow", "mesh/mesh#DefaultIntention@1")),
        ("DefaultIntention: deny", False, ("deny", "mesh/mesh#DefaultIntention@1")),
        ("ExplainDenials: true", False, ("deny", "default#DefaultIntention")),
        ("DefaultIntention: allow", True, ("deny", "host#DefaultIntention")),
        ("DefaultIntention: deny", True, ("deny", "mesh/mesh#DefaultIntention@1")),
    ],
)
def test_what_nothing_matches(text: str, forbidden: bool, expected: tuple[str, str]) -> None:
    found = inbound(API, ("mesh", "mesh", text), forbid_default_allow=forbidden).permissions
    assert (found.fallback, found.fallback_origin) == expected


def test_intentions_that_nobody_can_read_deny() -> None:
    mesh = ("mesh", "mesh", "DefaultIntention: allow")
    found = inbound(API, mesh, unreadable=frozenset({("service-intentions", "api")})).permissions
    origin = "service-intentions/api#unreadable@0"
    assert found == Permissions(
        sources=(Source(name="*", origin=origin, action="deny"),), fallback="deny", fallback_origin=origin
    )
    other = inbound(API, mesh, unreadable=frozenset({("service-intentions", "db"), ("service-router", "api")}))
    assert other.permissions.fallback == "allow"


def test_more_specific_intentions_stand_before_an_unreadable_pattern() -> None:
    said = ("service-intentions", "api", "Sources: [{Name: web, Action: allow}]")
    found = inbound(API, said, unreadable=frozenset({("service-intentions", "*")})).permissions
    assert [(source.name, source.action) for source in found.sources] == [("web", "allow"), ("*", "deny")]


@pytest.mark.parametrize(
    "wrong", [instance("api", "a", address="api"), instance("a/b", "a"), instance("api", "a", "..")]
)
def test_an_instance_that_cannot_be_reached_is_named(wrong: model.Instance) -> None:
    compiled = compile_host(view(local=(wrong, API)))
    assert [resource.name for resource in compiled.resources if isinstance(resource, Inbound)] == ["api/a/api-1"]
    assert [problem.name for problem in compiled.problems] == [str(wrong.key)] or wrong.key == API.key
