"""Kind service-intentions."""

import pytest

from policies.schema.matching import HeaderMatch, HttpMatch
from policies.schema.service_intentions import IntentionSource, Permission, ServiceIntentions
from tests.unit.policies.build import document, problem, problems


def test_everything_that_it_may_say() -> None:
    text = """
Sources:
  - Name: web
    Description: the shop
    Permissions:
      - {Action: deny, HTTP: {PathPrefix: /admin}}
      - {Action: allow, HTTP: {Header: [{Name: x, Present: true}], Methods: [GET]}}
  - {Name: "*", Action: deny}
"""
    assert document("service-intentions", "api", text) == ServiceIntentions(
        name="api",
        version=1,
        sources=(
            IntentionSource(
                name="web",
                permissions=(
                    Permission(action="deny", http=HttpMatch(path_prefix="/admin")),
                    Permission(
                        action="allow", http=HttpMatch(header=(HeaderMatch(name="x", present=True),), methods=("GET",))
                    ),
                ),
            ),
            IntentionSource(name="*", action="deny"),
        ),
    )


@pytest.mark.parametrize(
    ("source", "path"),
    [
        ("{Name: web, Action: audit}", "Sources[0].Action"),
        ("{Name: web, Action: allow, SPIFFE: 'spiffe://x/y'}", "Sources[0].SPIFFE"),
        ("{Name: web, Action: allow, Peer: other}", "Sources[0].Peer"),
        ("{Name: web, Action: allow, Type: ent}", "Sources[0].Type"),
        (
            "{Name: web, Permissions: [{Action: allow, HTTP: {PathPrefix: /}, JWT: {Providers: [a]}}]}",
            "Sources[0].Permissions[0].JWT",
        ),
    ],
)
def test_later_fields_are_named(source: str, path: str) -> None:
    found = problem("service-intentions", "api", f"Sources: [{source}]")
    assert found.path == path
    assert "not supported yet" in found.reason


@pytest.mark.parametrize(
    ("text", "path"),
    [
        ("Sources: [{Action: allow}]", "Sources[0].Name"),
        ("Sources: [{Name: 'web*', Action: allow}]", "Sources[0].Name"),
        ("Kind: service-intentions", "Sources"),
        ("Sources: [{Name: a, Permissions: [{HTTP: {PathPrefix: /}}]}]", "Sources[0].Permissions[0].Action"),
        ("Sources: [{Name: a, Permissions: [{Action: allow}]}]", "Sources[0].Permissions[0].HTTP"),
    ],
)
def test_what_must_be_said(text: str, path: str) -> None:
    assert path in {found.path for found in problems("service-intentions", "api", text)}
