"""Kind service-router."""

import pytest

from policies.schema.headers import HeaderEdits
from policies.schema.matching import HttpMatch
from policies.schema.retry import Budget
from policies.schema.service_router import Destination, Route, RouteMatch, ServiceRouter
from tests.unit.policies.build import document, problem

EVERYTHING = """
Routes:
  - Name: reports
    Match:
      HTTP: {PathPrefix: /reports}
      Sources: [web]
    Destination:
      Service: api
      ServiceSubset: v2
      PrefixRewrite: /
      RequestTimeout: 60s
      PerTryTimeout: 20s
      NumRetries: 3
      RetryOnConnectFailure: true
      RetryOn: [5xx, reset]
      RetryOnStatusCodes: [429]
      RetryBudget: {Percent: 5}
      RequestHeaders: {Set: {x-a: "1"}}
      ResponseHeaders: {Remove: [server]}
  - Match: ~
"""


def test_everything_that_it_may_say() -> None:
    assert document("service-router", "web", EVERYTHING) == ServiceRouter(
        name="web",
        version=1,
        routes=(
            Route(
                label="reports",
                match=RouteMatch(http=HttpMatch(path_prefix="/reports"), sources=("web",)),
                destination=Destination(
                    service="api",
                    service_subset="v2",
                    prefix_rewrite="/",
                    request_timeout_ms=60_000,
                    per_try_timeout_ms=20_000,
                    num_retries=3,
                    retry_on_connect_failure=True,
                    retry_on=("5xx", "reset"),
                    retry_on_status_codes=(429,),
                    retry_budget=Budget(percent=500),
                    request_headers=HeaderEdits(set=(("x-a", "1"),)),
                    response_headers=HeaderEdits(remove=("server",)),
                ),
            ),
            Route(),
        ),
    )


@pytest.mark.parametrize("field", ["Redirect: {Code: 301}", "Respond: {Code: 200}", "Mirrors: [{Service: a}]"])
def test_later_actions_of_a_route_are_named(field: str) -> None:
    found = problem("service-router", "web", f"Routes: [{{{field}}}]")
    assert found.path == f"Routes[0].{field.partition(':')[0]}"
    assert "not supported yet" in found.reason


@pytest.mark.parametrize("field", ["HostRewrite: a", "IdleTimeout: 5s", "Backoff: {Base: 5ms}", "Hedge: {After: 5ms}"])
def test_later_fields_of_a_destination_are_named(field: str) -> None:
    found = problem("service-router", "web", f"Routes: [{{Destination: {{{field}}}}}]")
    assert found.path == f"Routes[0].Destination.{field.partition(':')[0]}"


def test_consuls_conditions_to_retry() -> None:
    found = problem("service-router", "web", "Routes: [{Destination: {RetryOn: [unavailable]}}]")
    assert found.reason == "unavailable is not supported yet"
    found = problem("service-router", "web", "Routes: [{Destination: {RetryOn: [connect-failur]}}]")
    assert found.hint == "did you mean connect-failure?"
