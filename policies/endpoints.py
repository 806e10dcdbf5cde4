"""`endpoint/<service>/<node>/<id>`: the instances of a destination, with the subsets that they belong to."""

from collections.abc import Iterable, Mapping
from typing import cast

from policies import address
from policies import filter as filters
from policies.compiled import Endpoint
from policies.problem import Problem
from policies.schema.service_resolver import Subset
from policies.span import span
from registry import model
from registry.ca import names

Made = Endpoint | Problem


class Endpoints:
    """Of one destination, kept up to date by what differs: one of ten thousand costs as much as one of ten."""

    def __init__(self, service: str, trust_domain: str) -> None:
        self._service = service
        self._trust_domain = trust_domain
        self._subsets: Mapping[str, Subset] | None = None
        self._known: tuple[model.Endpoint, ...] = ()
        self._made: tuple[Made, ...] = ()
        self.resources: tuple[Endpoint, ...] = ()  # those that can be spoken to
        self.problems: frozenset[Problem] = frozenset()  # of the others

    def update(self, known: tuple[model.Endpoint, ...], subsets: Mapping[str, Subset]) -> None:
        """`known` in the order of their keys; what is the same object as before is the same resource."""
        if subsets != self._subsets:
            self._known, self._made, self.problems = (), (), frozenset()
        start, left, came = span(self._known, known)
        old = {id(one): made for one, made in zip(self._known[start:left], self._made[start:left], strict=True)}
        fresh = [
            old.get(id(one)) or _endpoint(self._trust_domain, self._service, one, subsets) for one in known[start:came]
        ]
        self.problems = (self.problems - _problems(old.values())) | _problems(fresh)
        self._known, self._subsets = known, subsets
        self._made = (*self._made[:start], *fresh, *self._made[left:])
        sound = tuple(one for one in self._made if isinstance(one, Endpoint)) if self.problems else self._made
        self.resources = cast(tuple[Endpoint, ...], sound)  # nothing to leave out: no pass over all


def _problems(made: Iterable[Made]) -> frozenset[Problem]:
    return frozenset(one for one in made if isinstance(one, Problem))


def _endpoint(trust_domain: str, service: str, endpoint: model.Endpoint, subsets: Mapping[str, Subset]) -> Made:
    instance = endpoint.instance
    app = address.joined(instance.address, instance.port)
    inbound = address.joined(instance.inbound.address, instance.inbound.port) if instance.inbound else None
    spiffe = _identity(trust_domain, instance)
    if instance.service != service or app is None or spiffe is None or (instance.inbound and inbound is None):
        reason = "is left out: its name or an address of it is not valid"
        return Problem(kind="instance", name=str(instance.key), reason=reason)
    return Endpoint(
        name=str(instance.key),
        id=instance.id,
        service=service,
        node=instance.node,
        address=app,
        inbound=inbound,
        sni=names.sni(spiffe) if inbound else "",
        spiffe=spiffe if inbound else "",
        weight=_weight(endpoint),
        state="critical" if endpoint.state == "damped" else endpoint.state,  # for the proxy it is one reason of many
        subsets=tuple(sorted(name for name, subset in subsets.items() if member(subset, endpoint))),
    )


def member(subset: Subset, endpoint: model.Endpoint) -> bool:
    """Does the instance belong to the subset now? A suspect or damped one counts by the health that it has."""
    if subset.only_passing and not _passing(endpoint):
        return False
    return subset.filter is None or filters.holds(subset.filter, endpoint.instance)


def _passing(endpoint: model.Endpoint) -> bool:
    return endpoint.state == "passing" or (
        endpoint.state in ("suspect", "draining", "damped") and endpoint.instance.health == "passing"
    )


def _weight(endpoint: model.Endpoint) -> int:
    weights = endpoint.instance.weights
    return max(weights.passing if _passing(endpoint) else weights.warning, 0)


def _identity(trust_domain: str, instance: model.Instance) -> str | None:
    try:
        return names.service_id(trust_domain, instance.service, instance.node, instance.id)
    except names.BadName:
        return None
