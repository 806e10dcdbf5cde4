"""`meshctl service NAME`: what is in force for one service, every value with who set it.

Taken from compiled resources, not from documents: it shows what proxies do, not what somebody meant.
"""

from collections.abc import Iterable, Mapping

from meshd.admin.shapes import EndpointRow, IntentionRow, RuleRow, ServiceView, Setting
from policies.compiled import (
    AnyResource,
    Endpoint,
    Fault,
    Inbound,
    Leg,
    Match,
    Permission,
    Routes,
    Rule,
    Service,
    Source,
    Upstream,
)
from policies.schema.service_defaults import ServiceDefaults


def build(
    name: str,
    resources: Iterable[AnyResource],
    rows: tuple[EndpointRow, ...],
    hits: Mapping[str, int],
    said: ServiceDefaults | None = None,
) -> ServiceView:
    """`resources`: compiled for a host that calls and hosts the service; `hits` by origin, of the local proxy.
    `said`: the document that these resources come from where they do not name it."""
    found = list(resources)
    service = next((one for one in found if isinstance(one, Service) and one.name == name), Service(name=name))
    routes = next((one for one in found if isinstance(one, Routes) and one.name == name), None)
    inbound = next((one for one in found if isinstance(one, Inbound) and one.service == name), None)
    return ServiceView(
        name=name,
        protocol=service.protocol,
        endpoints=rows,
        settings=(protocol(service, rows, said), *settings(service, routes, inbound, said)),
        routes=tuple(rule_row(rule, hits) for rule in routes.rules) if routes else (),
        faults=tuple(fault_row(fault, hits) for fault in routes.faults) if routes else (),
        intentions=tuple(intentions(inbound)) if inbound else (),
    )


def subsets(resources: Iterable[AnyResource]) -> dict[str, tuple[str, ...]]:
    """Subsets by endpoint."""
    return {one.name: one.subsets for one in resources if isinstance(one, Endpoint)}


def settings(
    service: Service, routes: Routes | None, inbound: Inbound | None, said: ServiceDefaults | None
) -> Iterable[Setting]:
    yield from upstream("", service.upstream)
    for caller, override in sorted(service.callers.items()):
        yield from upstream(f"{caller}: ", override)
    if routes and routes.rules:
        rule = routes.rules[-1]  # the one that matches everything: the service's defaults
        yield Setting(name="RequestTimeout", value=milliseconds(rule.timeout_ms), origin=rule.origin)
        retry = rule.retry
        yield Setting(name="NumRetries", value=str(retry.attempts), origin=retry.origin)
        yield Setting(name="RetryOn", value=", ".join(retry.on), origin=retry.origin)
        budget = f"{retry.budget.percent / 100:g} % + {retry.budget.min_per_second}/s"
        yield Setting(name="RetryBudget", value=budget, origin=retry.origin)
    if inbound:
        yield from own_side(inbound, said)
        fallback = inbound.permissions
        yield Setting(name="DefaultIntention", value=fallback.fallback, origin=fallback.fallback_origin)


def own_side(inbound: Inbound, said: ServiceDefaults | None) -> Iterable[Setting]:
    """How the service's own hosts treat calls."""
    limit = str(inbound.max_connections) if inbound.max_connections else "no limit"
    for name, value, written in (
        ("MaxInboundConnections", limit, said and said.max_inbound_connections),
        ("LocalConnectTimeout", milliseconds(inbound.connect_timeout_ms), said and said.local_connect_timeout_ms),
        ("LocalRequestTimeout", milliseconds(inbound.request_timeout_ms), said and said.local_request_timeout_ms),
    ):
        yield Setting(name=name, value=value, origin=said.origin(name) if said and written else "default#inbound")


def protocol(service: Service, rows: tuple[EndpointRow, ...], said: ServiceDefaults | None) -> Setting:
    """The document's, else the registrations', else that of the last instance that was registered."""
    if said is not None and said.protocol is not None:
        origin = said.origin("Protocol")
    elif rows:
        origin = f"registration of {rows[0].name}" + (f" and {len(rows) - 1} more" if len(rows) > 1 else "")
    else:
        origin = "default#Protocol"
    return Setting(name="Protocol", value=service.protocol, origin=origin)


def upstream(prefix: str, one: Upstream) -> Iterable[Setting]:
    outlier = one.outlier
    ejection = (
        f"after {outlier.consecutive_failures} failures for {milliseconds(outlier.base_ejection_ms)} x times, "
        f"at most {outlier.max_ejection_percent / 100:g} %"
    )
    for name, value in (
        ("ConnectTimeout", milliseconds(one.connect_timeout_ms)),
        ("IdleTimeout", milliseconds(one.idle_timeout_ms)),
        ("AllowPlaintext", str(one.allow_plaintext).lower()),
        ("Ejection", ejection),
    ):
        yield Setting(name=prefix + name, value=value, origin=one.origin)


def rule_row(rule: Rule, hits: Mapping[str, int]) -> RuleRow:
    legs = ", ".join(map(leg, rule.legs))
    return RuleRow(
        match=match(rule.match, rule.sources), action=legs, origin=rule.origin, hits=hits.get(rule.origin, 0)
    )


def leg(one: Leg) -> str:
    target = f"{one.service}/{one.subset}" if one.subset else one.service
    share = f" {one.weight / 100:g} %" if one.weight != 10_000 else ""
    return target + share + (f" (broken: {one.broken})" if one.broken else "")


def fault_row(fault: Fault, hits: Mapping[str, int]) -> RuleRow:
    parts = []
    if fault.delay:
        spread = fault.delay
        span = milliseconds(spread.min_ms)
        if spread.max_ms != spread.min_ms:
            span += f"-{milliseconds(spread.max_ms)}"
        parts.append(f"delay {span} for {spread.percent / 100:g} %")
    if fault.abort:
        what = "reset" if fault.abort.reset else f"status {fault.abort.status}"
        parts.append(f"abort with {what} for {fault.abort.percent / 100:g} %")
    where = match(fault.match, fault.sources) + (f", header {fault.header}" if fault.header else "")
    return RuleRow(match=where, action="; ".join(parts), origin=fault.origin, hits=hits.get(fault.origin, 0))


def intentions(inbound: Inbound) -> Iterable[IntentionRow]:
    for source in inbound.permissions.sources:
        yield from intention(source, inbound.permissions.fallback)
    last = inbound.permissions
    yield IntentionRow(source="(any other)", action=last.fallback, origin=last.fallback_origin)


def intention(source: Source, fallback: str) -> Iterable[IntentionRow]:
    if source.action is not None:
        yield IntentionRow(source=source.name, action=source.action, origin=source.origin)
        return
    for permission in source.permissions:
        yield IntentionRow(
            source=source.name, action=f"{permission.action} {where(permission)}", origin=permission.origin
        )
    yield IntentionRow(source=source.name, action=f"{fallback} everything else", origin=source.origin)


def where(permission: Permission) -> str:
    return match(permission.match, ())


def match(one: Match | None, sources: tuple[str, ...]) -> str:
    """A condition in words."""
    parts = [f"from {', '.join(sources)}"] if sources else []
    if one is not None:
        parts += [
            f"path {kind} {value}"
            for kind, value in (("=", one.path_exact), ("prefix", one.path_prefix), ("~", one.path_regex))
            if value is not None
        ]
        parts += [("not " if header.invert else "") + f"header {header.name}" for header in one.headers]
        parts += [f"query {query.name}" for query in one.query]
        if one.methods:
            parts.append("/".join(one.methods))
    return ", ".join(parts) or "everything"


def milliseconds(value: int) -> str:
    if value == 0:
        return "none"
    return f"{value / 1000:g}s" if value >= 1000 else f"{value}ms"
