"""What must hold between the fields of one document."""

import pytest

from policies.schema.shape import MAX_PROBLEMS
from tests.unit.policies.build import document, problem, problems

UNTIL = "Until: 2026-12-01T18:00:00Z\nService: api\n"


def route(text: str) -> str:
    return f"Routes: [{{{text}}}]"


@pytest.mark.parametrize(
    ("kind", "text", "path", "reason"),
    [
        (
            "service-router",
            route("Match: {HTTP: {PathExact: /a, PathPrefix: /b}}"),
            "Routes[0].Match.HTTP",
            "has PathExact and PathPrefix",
        ),
        (
            "service-router",
            route("Match: {HTTP: {Header: [{Name: a}]}}"),
            "Routes[0].Match.HTTP.Header[0]",
            "needs exactly one condition",
        ),
        (
            "service-router",
            route("Match: {HTTP: {Header: [{Name: a, Exact: b, Present: true}]}}"),
            "Routes[0].Match.HTTP.Header[0]",
            "needs exactly one condition",
        ),
        (
            "service-router",
            route("Match: {HTTP: {QueryParam: [{Name: a, Exact: b, Regex: c}]}}"),
            "Routes[0].Match.HTTP.QueryParam[0]",
            "needs exactly one condition",
        ),
        (
            "service-router",
            route("Match: {HTTP: {Methods: [GET, get]}}"),
            "Routes[0].Match.HTTP.Methods[1]",
            "GET occurs twice",
        ),
        (
            "service-router",
            route("Destination: {PrefixRewrite: /}"),
            "Routes[0].Destination.PrefixRewrite",
            "needs Match.HTTP.PathPrefix or PathExact to replace",
        ),
        (
            "service-router",
            route("Match: {HTTP: {PathRegex: /a.*}}, Destination: {PrefixRewrite: /}"),
            "Routes[0].Destination.PrefixRewrite",
            "needs Match.HTTP.PathPrefix or PathExact to replace",
        ),
        (
            "service-router",
            route("Destination: {RequestTimeout: 1s, PerTryTimeout: 2s}"),
            "Routes[0].Destination.PerTryTimeout",
            "is longer than RequestTimeout",
        ),
        (
            "service-router",
            route("Destination: {RequestHeaders: {Add: {a: b}, Set: {A: c}}}"),
            "Routes[0].Destination.RequestHeaders.Add",
            "a is also in Set",
        ),
        ("service-splitter", "Splits: [{Weight: 99.99, ServiceSubset: a}]", "Splits", "weights sum to 99.99"),
        ("service-splitter", "Splits: []", "Splits", "weights sum to 0"),
        (
            "service-splitter",
            "Splits: [{Weight: 50}, {Weight: 50, Service: api}]",
            "Splits[1]",
            "goes where Splits[0] goes",
        ),
        ("service-resolver", "DefaultSubset: v1", "DefaultSubset", "v1 is not among Subsets"),
        (
            "service-intentions",
            "Sources: [{Name: a, Action: allow}, {Name: a, Action: deny}]",
            "Sources[1]",
            "a occurs twice",
        ),
        ("service-intentions", "Sources: [{Name: a}]", "Sources[0]", "has neither Action nor Permissions"),
        (
            "service-intentions",
            "Sources: [{Name: a, Action: deny, Permissions: [{Action: allow, HTTP: {PathPrefix: /}}]}]",
            "Sources[0]",
            "has both Action and Permissions",
        ),
        (
            "service-intentions",
            "Sources: [{Name: a, Permissions: [{Action: allow, HTTP: {Methods: []}}]}]",
            "Sources[0].Permissions[0].HTTP",
            "has no condition",
        ),
        (
            "service-defaults",
            "UpstreamConfig: {Overrides: [{Name: a}, {Name: a}]}",
            "UpstreamConfig.Overrides[1]",
            "a occurs twice",
        ),
        ("fault", UNTIL, "", "does nothing"),
        ("fault", UNTIL + "Delay: {Percent: 5}", "Delay", "needs either Fixed or Min and Max"),
        ("fault", UNTIL + "Delay: {Fixed: 1s, Min: 1s, Max: 2s}", "Delay", "needs either Fixed or Min and Max"),
        ("fault", UNTIL + "Delay: {Min: 1s}", "Delay", "needs both Min and Max"),
        ("fault", UNTIL + "Delay: {Min: 2s, Max: 1s}", "Delay.Min", "is more than Max"),
        ("fault", UNTIL + "Abort: {Percent: 5}", "Abort", "needs either HTTPStatus or Reset"),
        ("fault", UNTIL + "Abort: {HTTPStatus: 500, Reset: true}", "Abort", "needs either HTTPStatus or Reset"),
        (
            "fault",
            UNTIL + "Abort: {Reset: true}\nMatch: {HTTP: {PathExact: /a, PathRegex: b}}",
            "Match.HTTP",
            "has PathExact and PathRegex",
        ),
    ],
)
def test_contradictions(kind: str, text: str, path: str, reason: str) -> None:
    found = problem(kind, "api", text)
    assert (found.path, found.reason) == (path, reason)
    assert found.line > 0


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("service-router", route("Match: {HTTP: {PathExact: /a}}, Destination: {PrefixRewrite: /b}")),
        ("service-router", route("Destination: {RequestTimeout: -1s, PerTryTimeout: 2s}")),
        ("service-router", "Routes: []"),
        ("service-splitter", "Splits: [{Weight: 33.33}, {Weight: 66.67, ServiceSubset: v2}]"),
        ("service-resolver", "Subsets: {}"),
        ("service-intentions", "Sources: []"),
        ("fault", UNTIL + "Delay: {Fixed: 1s}\nAbort: {Reset: true}"),
        ("fault", UNTIL + "Delay: {Min: 1s, Max: 1s}"),
    ],
)
def test_good_ones(kind: str, text: str) -> None:
    assert document(kind, "api", text).name == "api"


def test_problems_are_bounded_here_too() -> None:
    text = "Routes: [" + "{Destination: {PrefixRewrite: /}}, " * 50 + "]"
    assert len(problems("service-router", "api", text)) == MAX_PROBLEMS
