"""`routes/<service>`: rules, retries, timeouts, faults, each with its origin."""

import pytest

from policies.compile import compile_host
from policies.compiled import Abort, Delay, Fault, HeaderEdit, Leg, Match, Retry, RetryBudget, Rule
from tests.unit.policies.build import HTTP, routes, view

WEB = ("service-defaults", "api", HTTP)
TCP = {"api": "tcp"}
UNTIL = "Service: api\nUntil: 2026-12-01T18:00:00Z\n"


def router(destination: str, match: str = "~") -> tuple[str, str, str]:
    return "service-router", "api", f"Routes: [{{Match: {match}, Destination: {{{destination}}}}}]"


def first(destination: str, *said: tuple[str, str, str]) -> Rule:
    return routes("api", WEB, router(destination), *said).rules[0]


def test_without_documents_there_is_the_default_rule() -> None:
    assert routes("api").rules == (Rule(origin="default#route", legs=(Leg(service="api"),)),)


def test_rules_in_order_and_the_default_last() -> None:
    text = """
Routes:
  - Match: {HTTP: {PathPrefix: /admin}, Sources: [web, ops, web]}
    Destination:
      Service: admin
      PrefixRewrite: /
      RequestTimeout: 2s
      PerTryTimeout: 500ms
      RequestHeaders: {Set: {a: b}}
      ResponseHeaders: {Remove: [c]}
  - {}
"""
    found = routes("api", WEB, ("service-router", "api", text))
    assert found.rules == (
        Rule(
            origin="service-router/api#Routes[0]@2",
            legs=(Leg(service="admin", origin="service-router/api#Routes[0]@2"),),
            match=Match(path_prefix="/admin"),
            sources=("ops", "web"),
            prefix_rewrite="/",
            timeout_ms=2000,
            per_try_timeout_ms=500,
            request_headers=HeaderEdit(set=(("a", "b"),)),
            response_headers=HeaderEdit(remove=("c",)),
        ),
        Rule(
            origin="service-router/api#Routes[1]@2",
            legs=(Leg(service="api", origin="service-router/api#Routes[1]@2"),),
        ),
        Rule(origin="default#route", legs=(Leg(service="api"),)),
    )


def test_the_destinations_splitter_applies() -> None:
    split = ("service-splitter", "next", "Splits: [{Weight: 50}, {Weight: 50, Service: other}]")
    assert [leg.service for leg in first("Service: next", split).legs] == ["next", "other"]


def test_a_missing_subset_is_a_problem_of_the_route() -> None:
    view_ = view(WEB, router("ServiceSubset: v9"), wanted=frozenset({"api"}))
    (problem,) = compile_host(view_).problems
    assert str(problem) == "service-router/api: Routes[0]: service-resolver/api has no subset v9"
    assert first("ServiceSubset: v9").legs[0].broken == "service-resolver/api has no subset v9"


def test_a_router_on_a_tcp_service_answers_for_its_rules_alone() -> None:
    compiled = compile_host(view(router("Service: other"), wanted=frozenset({"api"}), spoken=TCP))
    (problem,) = compiled.problems
    assert problem.hint == "service-defaults/api with Protocol: http"
    rule, default = routes("api", router("Service: other"), spoken=TCP).rules
    assert rule.legs[0].broken == "api speaks tcp, routes are for http"
    assert default.legs == (Leg(service="api"),)


@pytest.mark.parametrize(
    ("route", "resolver", "expected"),
    [
        ("", "", 15_000),
        ("RequestTimeout: 2s", "RequestTimeout: 3s", 2_000),
        ("", "RequestTimeout: 3s", 3_000),
        ("RequestTimeout: 0s", "RequestTimeout: 3s", 3_000),  # as in Consul: 0 is "not said"
        ("RequestTimeout: -1s", "RequestTimeout: 3s", 0),
        ("", "RequestTimeout: -1s", 0),
    ],
)
def test_timeouts(route: str, resolver: str, expected: int) -> None:
    resolvers = [("service-resolver", "api", resolver)] if resolver else []
    assert first(route, *resolvers).timeout_ms == expected


def test_no_leg_of_a_split_is_cut_short() -> None:
    said = (
        ("service-splitter", "api", "Splits: [{Weight: 50, Service: a}, {Weight: 50, Service: b}]"),
        ("service-resolver", "a", "RequestTimeout: 60s"),
    )
    assert routes("api", *said).rules[-1].timeout_ms == 60_000
    assert routes("api", *said, ("service-resolver", "b", "RequestTimeout: -1s")).rules[-1].timeout_ms == 0


ORIGIN = "service-router/api#Routes[0]@2"


@pytest.mark.parametrize(
    ("destination", "expected"),
    [
        ("", Retry()),
        ("NumRetries: 5", Retry(attempts=5, origin=ORIGIN)),
        ("NumRetries: 0", Retry(attempts=0, origin=ORIGIN)),
        ("RetryBudget: {Percent: 5}", Retry(budget=RetryBudget(percent=500), origin=ORIGIN)),
        ("RetryOn: [5xx, reset]", Retry(on=("5xx", "reset"), default=False, origin=ORIGIN)),
        (
            "RetryOnConnectFailure: true, NumRetries: 1",
            Retry(attempts=1, on=("connect-failure", "peer-503"), default=False, origin=ORIGIN),
        ),
        (
            "RetryOnStatusCodes: [503, 429, 503]",
            Retry(on=(), status_codes=(429, 503), default=False, origin=ORIGIN),
        ),
    ],
)
def test_retries(destination: str, expected: Retry) -> None:
    assert first(destination).retry == expected


def test_the_meshs_budget() -> None:
    mesh = ("mesh", "mesh", "RetryBudget: {Percent: 7, MinPerSecond: 1}")
    found = routes("api", WEB, router("RetryBudget: {MinPerSecond: 9}"), mesh)
    assert found.rules[0].retry.budget == RetryBudget(percent=700, min_per_second=9)
    assert found.rules[1].retry == Retry(
        budget=RetryBudget(percent=700, min_per_second=1), origin="mesh/mesh#RetryBudget@3"
    )
    assert routes("api", ("mesh", "mesh", "ExplainDenials: true")).rules[0].retry == Retry()


def test_faults() -> None:
    text = UNTIL + (
        "Sources: [web]\nHeader: x-chaos\nMatch: {HTTP: {PathExact: /a}}\n"
        "Delay: {Min: 1s, Max: 2s, Percent: 50}\nAbort: {HTTPStatus: 503, Percent: 1}"
    )
    (fault,) = routes("api", WEB, ("fault", "slow", text)).faults
    assert fault == Fault(
        origin="fault/slow#@2",
        until_ms=1_796_148_000_000,
        match=Match(path_exact="/a"),
        sources=("web",),
        header="x-chaos",
        delay=Delay(min_ms=1000, max_ms=2000, percent=5000),
        abort=Abort(status=503, percent=100),
    )


def test_an_ended_experiment_still_compiles_the_proxys_clock_decides() -> None:
    text = "Service: api\nUntil: 1970-01-01T00:00:00Z\nDelay: {Fixed: 5s}"
    (fault,) = routes("api", ("fault", "slow", text)).faults
    assert fault.until_ms == 0
    assert fault.delay == Delay(min_ms=5000, max_ms=5000)
    assert fault.abort is None


@pytest.mark.parametrize("text", ["Abort: {HTTPStatus: 503}", "Delay: {Fixed: 1s}\nHeader: x"])
def test_what_needs_a_request_does_not_happen_to_tcp(text: str) -> None:
    compiled = compile_host(view(("fault", "slow", UNTIL + text), wanted=frozenset({"api"}), spoken=TCP))
    assert [problem.kind for problem in compiled.problems] == ["fault"]
    assert routes("api", ("fault", "slow", UNTIL + text), spoken=TCP).faults == ()
    assert len(routes("api", ("fault", "slow", UNTIL + "Abort: {Reset: true}"), spoken=TCP).faults) == 1


def test_faults_belong_to_the_service_where_legs_end() -> None:
    said = (
        ("service-splitter", "web", "Splits: [{Weight: 100, Service: api}]"),
        ("fault", "f", UNTIL + "Abort: {Reset: true}"),
    )
    assert routes("web", *said).faults == ()
    assert len(routes("api", *said).faults) == 1
