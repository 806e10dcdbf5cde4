"""Kind `service-router`: which requests for a service go where, and how long and how often they are tried.

Source: https://developer.hashicorp.com/consul/docs/connect/config-entries/service-router
"""

from dataclasses import dataclass
from typing import ClassVar

from policies.schema import matching, values
from policies.schema.document import Base
from policies.schema.headers import HEADERS, HeaderEdits
from policies.schema.retry import BUDGET, Budget
from policies.schema.shape import Field, Shape, list_of, scalar

RETRY_ON = ("5xx", "gateway-error", "reset", "connect-failure", "retriable-4xx", "peer-503")
RETRY_ON_LATER = (
    "cancelled",
    "deadline-exceeded",
    "envoy-ratelimited",
    "internal",
    "refused-stream",
    "reset-before-request",
    "resource-exhausted",
    "unavailable",
)


@dataclass(frozen=True, kw_only=True)
class RouteMatch:
    """`sources`: calling services that the route is for; empty: all."""

    http: matching.HttpMatch | None = None
    sources: tuple[str, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Destination:
    """None: not said. `request_timeout_ms` 0: no limit."""

    service: str | None = None
    service_subset: str | None = None
    prefix_rewrite: str | None = None
    request_timeout_ms: int | None = None
    per_try_timeout_ms: int | None = None
    num_retries: int | None = None
    retry_on_connect_failure: bool = False
    retry_on: tuple[str, ...] = ()
    retry_on_status_codes: tuple[int, ...] = ()
    retry_budget: Budget | None = None
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


@dataclass(frozen=True, kw_only=True)
class Route:
    """`label` is for people."""

    label: str = ""
    match: RouteMatch = RouteMatch()
    destination: Destination = Destination()


@dataclass(frozen=True, kw_only=True)
class ServiceRouter(Base):
    kind: ClassVar[str] = "service-router"

    routes: tuple[Route, ...] = ()


MATCH = Shape(
    RouteMatch,
    (Field("HTTP", "http", matching.HTTP), Field("Sources", "sources", list_of(scalar(values.service_name)))),
)

DESTINATION = Shape(
    Destination,
    (
        Field("Service", "service", scalar(values.optional(values.service_name))),
        Field("ServiceSubset", "service_subset", scalar(values.optional(values.subset_name))),
        Field("PrefixRewrite", "prefix_rewrite", scalar(values.optional(matching.path))),
        Field("RequestTimeout", "request_timeout_ms", scalar(values.timeout)),
        Field("PerTryTimeout", "per_try_timeout_ms", scalar(values.duration)),
        Field("NumRetries", "num_retries", scalar(values.whole(0, 100))),
        Field("RetryOnConnectFailure", "retry_on_connect_failure", scalar(values.boolean)),
        Field("RetryOn", "retry_on", list_of(scalar(values.one_of(*RETRY_ON, later=RETRY_ON_LATER)))),
        Field("RetryOnStatusCodes", "retry_on_status_codes", list_of(scalar(values.whole(100, 599)))),
        Field("RetryBudget", "retry_budget", BUDGET),
        Field("RequestHeaders", "request_headers", HEADERS),
        Field("ResponseHeaders", "response_headers", HEADERS),
    ),
    later=("HostRewrite", "IdleTimeout", "Backoff", "Hedge"),
)

ROUTE = Shape(
    Route,
    (
        Field("Name", "label", scalar(values.string)),
        Field("Match", "match", MATCH),
        Field("Destination", "destination", DESTINATION),
    ),
    later=("Redirect", "Respond", "Mirrors", "Fault"),
)

SHAPE = Shape(ServiceRouter, (Field("Routes", "routes", list_of(ROUTE)),))
