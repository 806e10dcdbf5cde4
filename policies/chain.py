"""Consul's chain below the router: the splitter of a destination, splitters of its sides, then the resolver.

Faults across documents reject nothing: the leg that cannot be served carries `broken` and is a Problem, and is served
as soon as the other document arrives.
Source: https://developer.hashicorp.com/consul/docs/connect/manage-traffic/discovery-chain
"""

from dataclasses import dataclass, field, replace
from fractions import Fraction

from policies.compiled import HeaderEdit, Leg
from policies.context import Context
from policies.schema.headers import HeaderEdits
from policies.schema.kinds import AnyDocument
from policies.schema.service_resolver import ServiceResolver
from policies.schema.service_splitter import Part, ServiceSplitter

WHOLE = 10_000
MAX_STEPS = 1_000  # legs of one rule, nested splitters counted: beyond it is a mistake or an attack


@dataclass(frozen=True)
class Referrer:
    """What names a destination: the place in a document, or the mesh's default route (`document` None)."""

    origin: str
    document: AnyDocument | None = None
    path: str = ""


DEFAULT_ROUTE = Referrer("default#route")


@dataclass(frozen=True)
class _Side:
    service: str
    subset: str | None
    referrer: Referrer
    weight: Fraction = Fraction(1)
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None
    broken: str | None = None


@dataclass
class _Expansion:
    """Unfolds one destination into its sides."""

    context: Context
    steps: int = field(default=0)

    def sides(self, side: _Side, trail: tuple[str, ...]) -> list[_Side]:
        self.steps += 1
        if self.steps > MAX_STEPS:
            return [replace(side, broken="splitters unfold into too many sides")]
        splitter = self.context.index.find(ServiceSplitter, side.service) if side.subset is None else None
        if splitter is None:
            return [side]
        if side.service in trail:
            circle = " -> ".join((*trail[trail.index(side.service) :], side.service))
            return [replace(side, broken=f"splitters form a circle: {circle}")]
        found: list[_Side] = []
        for i, part in enumerate(splitter.splits):
            below = _below(side, part, Referrer(splitter.origin(f"Splits[{i}]"), splitter, f"Splits[{i}]"))
            onward = part.service is not None and part.service != side.service
            found += self.sides(below, (*trail, side.service)) if onward else [below]
        return found


def legs(context: Context, asked: str, service: str, subset: str | None, referrer: Referrer) -> tuple[Leg, ...]:
    """The legs of one rule of the service `asked`, whose destination is `service` (and `subset`). Weights sum to 10000.

    Sides of weight 0 are checked, but left out.
    """
    expansion = _Expansion(context)
    sides = [_resolved(context, asked, side) for side in expansion.sides(_Side(service, subset, referrer), ())]
    if expansion.steps > MAX_STEPS:
        sides = [replace(_Side(service, subset, referrer), broken="splitters unfold into too many sides")]
    for side in sides:
        if side.broken and side.referrer.document is not None:
            context.note(side.referrer.document, side.referrer.path, side.broken)
    weights = rounded([side.weight for side in sides])
    return tuple(_leg(side, weight) for side, weight in zip(sides, weights, strict=True) if weight)


def rounded(shares: list[Fraction]) -> list[int]:
    """Shares of 1 as integers that sum to 10000: the largest remainders are rounded up, earlier ones first."""
    exact = [share * WHOLE for share in shares]
    floors = [int(value) for value in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (floors[i] - exact[i], i))
    for i in by_remainder[: WHOLE - sum(floors)]:
        floors[i] += 1
    return floors


def _below(side: _Side, part: Part, referrer: Referrer) -> _Side:
    return _Side(
        service=part.service or side.service,
        subset=part.service_subset,
        referrer=referrer,
        weight=side.weight * Fraction(part.weight, WHOLE),
        request_headers=merged(side.request_headers, part.request_headers),
        response_headers=merged(side.response_headers, part.response_headers),
    )


def _resolved(context: Context, asked: str, side: _Side) -> _Side:
    """With the resolver's default subset, and marked when it cannot be served."""
    if side.broken:
        return side
    resolver = context.index.find(ServiceResolver, side.service)
    subset = side.subset or (resolver.default_subset if resolver else None)
    broken = None
    if subset is not None and (resolver is None or subset not in resolver.subsets):
        broken = f"service-resolver/{side.service} has no subset {subset}"
    spoken, known = context.protocol(asked), context.known_protocol(side.service)
    if known is not None and known != spoken:
        broken = f"{asked} speaks {spoken}, but {side.service} {known}"
    return replace(side, subset=subset, broken=broken)


def _leg(side: _Side, weight: int) -> Leg:
    return Leg(
        service=side.service,
        subset=side.subset,
        weight=weight,
        request_headers=compiled_edits(side.request_headers),
        response_headers=compiled_edits(side.response_headers),
        broken=side.broken,
        origin=side.referrer.origin,
    )


def merged(outer: HeaderEdits | None, inner: HeaderEdits | None) -> HeaderEdits | None:
    """Edits of nested splitters as one; where both edit a header, the inner one wins, as in Consul."""
    if outer is None or inner is None:
        return inner or outer
    return HeaderEdits(
        add=tuple(sorted((dict(outer.add) | dict(inner.add)).items())),
        set=tuple(sorted((dict(outer.set) | dict(inner.set)).items())),
        remove=tuple(sorted({*outer.remove, *inner.remove})),
    )


def compiled_edits(edits: HeaderEdits | None) -> HeaderEdit | None:
    """None when nothing is edited."""
    if edits is None or not (edits.add or edits.set or edits.remove):
        return None
    return HeaderEdit(add=edits.add, set=edits.set, remove=edits.remove)
