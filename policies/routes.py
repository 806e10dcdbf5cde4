"""`routes/<service>`: the router's rules, the default rule behind them, and the service's faults."""

from policies.chain import DEFAULT_ROUTE, Referrer, compiled_edits, legs
from policies.compiled import Abort, Delay, Fault, Leg, Retry, RetryBudget, Routes, Rule
from policies.context import Context
from policies.matches import compiled_match
from policies.schema import fault as schema
from policies.schema.retry import Budget
from policies.schema.service_resolver import ServiceResolver
from policies.schema.service_router import Destination, Route, ServiceRouter

DEFAULT_RULE = Rule(origin="default#route", legs=())
DEFAULT_RETRY = Retry()
DEFAULT_TIMEOUT_MS = DEFAULT_RULE.timeout_ms


def routes(context: Context, service: str) -> Routes:
    """All that is decided about requests for the service; the last rule matches everything."""
    router = context.index.find(ServiceRouter, service)
    rules = [_rule(context, service, router, i) for i in range(len(router.routes))] if router else []
    return Routes(name=service, rules=(*rules, _default_rule(context, service)), faults=_faults(context, service))


def _default_rule(context: Context, service: str) -> Rule:
    found = legs(context, service, service, None, DEFAULT_ROUTE)
    timeout = _timeout(context, None, found)
    return Rule(origin=DEFAULT_ROUTE.origin, legs=found, timeout_ms=timeout, retry=default_retry(context))


def _rule(context: Context, service: str, router: ServiceRouter, i: int) -> Rule:
    route, path = router.routes[i], f"Routes[{i}]"
    target = route.destination
    referrer = Referrer(router.origin(path), router, path)
    found = _legs(context, service, target, referrer)
    return Rule(
        origin=referrer.origin,
        legs=found,
        match=compiled_match(route.match.http),
        sources=tuple(sorted(set(route.match.sources))),
        prefix_rewrite=target.prefix_rewrite,
        timeout_ms=_timeout(context, target.request_timeout_ms, found),
        per_try_timeout_ms=target.per_try_timeout_ms or 0,
        retry=_retry(context, route, referrer.origin),
        request_headers=compiled_edits(target.request_headers),
        response_headers=compiled_edits(target.response_headers),
    )


def _legs(context: Context, service: str, target: Destination, referrer: Referrer) -> tuple[Leg, ...]:
    destination = target.service or service
    if context.protocol(service) == "http":
        return legs(context, service, destination, target.service_subset, referrer)
    broken = f"{service} speaks tcp, routes are for http"
    if referrer.document is not None:
        hint = f"service-defaults/{service} with Protocol: http"
        context.note(referrer.document, referrer.path, broken, hint)
    return (Leg(service=destination, subset=target.service_subset, broken=broken, origin=referrer.origin),)


def _timeout(context: Context, said: int | None, found: tuple[Leg, ...]) -> int:
    """The route's own, else the longest that a leg's resolver asks for, so that no leg is cut short. 0: none."""
    if said is not None:
        return said
    resolvers = [context.index.find(ServiceResolver, leg.service) for leg in found]
    asked = [resolver.request_timeout_ms if resolver else None for resolver in resolvers]
    each = [DEFAULT_TIMEOUT_MS if one is None else one for one in asked]
    return 0 if 0 in each else max(each, default=DEFAULT_TIMEOUT_MS)


def default_retry(context: Context) -> Retry:
    """The mesh's own rule: idempotent methods only; its budget as `mesh` says."""
    mesh = context.index.mesh()
    if mesh is None or mesh.retry_budget is None:
        return DEFAULT_RETRY
    return Retry(budget=_budget(mesh.retry_budget, RetryBudget()), origin=mesh.origin("RetryBudget"))


def _retry(context: Context, route: Route, origin: str) -> Retry:
    """An operator's conditions cover all methods; a number or budget alone only changes the mesh's own rule."""
    target, base = route.destination, default_retry(context)
    conditions = set(target.retry_on) | ({"connect-failure"} if target.retry_on_connect_failure else set())
    if "connect-failure" in conditions:
        conditions.add("peer-503")  # behind a peer proxy, failing to reach the app is that proxy's answer
    operators = bool(conditions or target.retry_on_status_codes)
    if not operators and target.num_retries is None and target.retry_budget is None:
        return base
    return Retry(
        attempts=base.attempts if target.num_retries is None else target.num_retries,
        on=tuple(sorted(conditions)) if operators else base.on,
        status_codes=tuple(sorted(set(target.retry_on_status_codes))),
        budget=_budget(target.retry_budget or Budget(), base.budget),
        default=not operators,
        origin=origin,
    )


def _budget(said: Budget, base: RetryBudget) -> RetryBudget:
    return RetryBudget(
        percent=base.percent if said.percent is None else said.percent,
        min_per_second=base.min_per_second if said.min_per_second is None else said.min_per_second,
    )


def _faults(context: Context, service: str) -> tuple[Fault, ...]:
    documents = context.index.faults(service)
    return tuple(_fault(fault) for fault in documents if _possible(context, fault))


def _possible(context: Context, fault: schema.Fault) -> bool:
    """What needs a request to look at or to answer cannot happen to a byte stream."""
    answers = fault.abort is not None and fault.abort.http_status is not None
    if context.protocol(fault.service) == "http" or not (fault.match.http or fault.header or answers):
        return True
    context.note(fault, "", f"{fault.service} speaks tcp: Match, Header and HTTPStatus are for http")
    return False


def _fault(document: schema.Fault) -> Fault:
    delay, abort = document.delay, document.abort
    return Fault(
        origin=document.origin(""),
        until_ms=document.until_ms,
        match=compiled_match(document.match.http),
        sources=tuple(sorted(set(document.sources))),
        header=document.header,
        delay=_delay(delay) if delay else None,
        abort=Abort(status=abort.http_status, reset=abort.reset, percent=abort.percent) if abort else None,
    )


def _delay(delay: schema.Delay) -> Delay:
    low, high = delay.min_ms or 0, delay.max_ms or 0
    if delay.fixed_ms is not None:
        low = high = delay.fixed_ms
    return Delay(min_ms=low, max_ms=high, percent=delay.percent)
