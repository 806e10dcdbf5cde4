"""What must hold between the fields of one document. Faults across documents are `policies.compile`'s."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from policies.schema.fault import Abort, Delay, Fault
from policies.schema.headers import HeaderEdits
from policies.schema.kinds import AnyDocument
from policies.schema.matching import HeaderMatch, HttpMatch, QueryMatch
from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_intentions import IntentionSource, ServiceIntentions
from policies.schema.service_resolver import ServiceResolver
from policies.schema.service_router import Route, ServiceRouter
from policies.schema.service_splitter import ServiceSplitter

WHOLE = 10_000  # hundredths of a percent


@dataclass(frozen=True)
class Broken:
    """`path` inside the document."""

    path: str
    reason: str
    hint: str = ""


def faults(document: AnyDocument) -> Iterator[Broken]:
    """What is wrong with a document whose fields are each well typed."""
    match document:
        case ServiceRouter():
            for i, route in enumerate(document.routes):
                yield from _route(route, f"Routes[{i}]")
        case ServiceSplitter():
            yield from _splitter(document)
        case ServiceResolver():
            yield from _resolver(document)
        case ServiceIntentions():
            yield from _intentions(document)
        case ServiceDefaults():
            yield from _repeated([o.name for o in document.upstream_config.overrides], "UpstreamConfig.Overrides")
        case Fault():
            yield from _fault(document)


def _route(route: Route, path: str) -> Iterator[Broken]:
    http = route.match.http or HttpMatch()
    yield from _http(http, f"{path}.Match.HTTP")
    target = route.destination
    if target.prefix_rewrite is not None and (http.path_prefix is None and http.path_exact is None):
        yield Broken(f"{path}.Destination.PrefixRewrite", "needs Match.HTTP.PathPrefix or PathExact to replace")
    total, each = target.request_timeout_ms, target.per_try_timeout_ms
    if total and each and each > total:
        yield Broken(f"{path}.Destination.PerTryTimeout", "is longer than RequestTimeout")
    yield from _edits(target.request_headers, f"{path}.Destination.RequestHeaders")
    yield from _edits(target.response_headers, f"{path}.Destination.ResponseHeaders")


def _splitter(document: ServiceSplitter) -> Iterator[Broken]:
    total = sum(part.weight for part in document.splits)
    if total != WHOLE:
        yield Broken("Splits", f"weights sum to {total / 100:g}", "they must sum to 100")
    seen: dict[tuple[str, str], int] = {}
    for i, part in enumerate(document.splits):
        first = seen.setdefault((part.service or document.name, part.service_subset or ""), i)
        if first != i:
            yield Broken(f"Splits[{i}]", f"goes where Splits[{first}] goes", "add their weights")
    for i, part in enumerate(document.splits):
        yield from _edits(part.request_headers, f"Splits[{i}].RequestHeaders")
        yield from _edits(part.response_headers, f"Splits[{i}].ResponseHeaders")


def _resolver(document: ServiceResolver) -> Iterator[Broken]:
    default = document.default_subset
    if default is not None and default not in document.subsets:
        known = ", ".join(sorted(document.subsets)) or "none"
        yield Broken("DefaultSubset", f"{default} is not among Subsets", f"defined: {known}")


def _intentions(document: ServiceIntentions) -> Iterator[Broken]:
    yield from _repeated([source.name for source in document.sources], "Sources")
    for i, source in enumerate(document.sources):
        yield from _source(source, f"Sources[{i}]")


def _source(source: IntentionSource, path: str) -> Iterator[Broken]:
    if source.action is not None and source.permissions:
        yield Broken(path, "has both Action and Permissions", "what no permission matches is up to DefaultIntention")
    if source.action is None and not source.permissions:
        yield Broken(path, "has neither Action nor Permissions", "Action: allow or deny")
    for i, permission in enumerate(source.permissions):
        http = permission.http or HttpMatch()
        where = f"{path}.Permissions[{i}].HTTP"
        if http.everything:
            yield Broken(where, "has no condition", "PathPrefix: / is every request")
        yield from _http(http, where)


def _fault(document: Fault) -> Iterator[Broken]:
    if document.delay is None and document.abort is None:
        yield Broken("", "does nothing", "set Delay or Abort")
    if document.match.http is not None:
        yield from _http(document.match.http, "Match.HTTP")
    if document.delay is not None:
        yield from _delay(document.delay)
    if document.abort is not None:
        yield from _abort(document.abort)


def _delay(delay: Delay) -> Iterator[Broken]:
    ranged = delay.min_ms is not None or delay.max_ms is not None
    if (delay.fixed_ms is not None) == ranged:
        yield Broken("Delay", "needs either Fixed or Min and Max")
    elif ranged and (delay.min_ms is None or delay.max_ms is None):
        yield Broken("Delay", "needs both Min and Max")
    elif (delay.min_ms or 0) > (delay.max_ms or 0):
        yield Broken("Delay.Min", "is more than Max")


def _abort(abort: Abort) -> Iterator[Broken]:
    if (abort.http_status is not None) == abort.reset:
        yield Broken("Abort", "needs either HTTPStatus or Reset")


def _http(http: HttpMatch, path: str) -> Iterator[Broken]:
    if len(http.paths) > 1:
        yield Broken(path, f"has {' and '.join(http.paths)}", "one of PathExact, PathPrefix, PathRegex")
    for i, header in enumerate(http.header):
        yield from _one_condition(header, f"{path}.Header[{i}]")
    for i, parameter in enumerate(http.query_param):
        yield from _one_condition(parameter, f"{path}.QueryParam[{i}]")
    yield from _repeated(http.methods, f"{path}.Methods")


def _one_condition(match: HeaderMatch | QueryMatch, path: str) -> Iterator[Broken]:
    conditions: list[str | None] = [match.exact, match.regex]
    names = "Present, Exact, Regex"
    if isinstance(match, HeaderMatch):
        conditions += [match.prefix, match.suffix, match.contains]
        names = "Present, Exact, Prefix, Suffix, Contains, Regex"
    if sum(condition is not None for condition in conditions) + match.present != 1:
        yield Broken(path, "needs exactly one condition", f"one of {names}")


def _edits(edits: HeaderEdits | None, path: str) -> Iterator[Broken]:
    both = {name for name, _ in edits.add} & {name for name, _ in edits.set} if edits else set()
    for name in sorted(both):
        yield Broken(f"{path}.Add", f"{name} is also in Set")


def _repeated(names: Sequence[str], path: str) -> Iterator[Broken]:
    seen: set[str] = set()
    for i, name in enumerate(names):
        if name in seen:
            yield Broken(f"{path}[{i}]", f"{name} occurs twice")
        seen.add(name)
