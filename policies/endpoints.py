"""`endpoint/<service>/<node>/<id>`: the instances of a destination, with the subsets that they belong to."""

from policies import address
from policies import filter as filters
from policies.compiled import Endpoint
from policies.context import Context
from policies.schema.service_resolver import ServiceResolver, Subset
from registry import model
from registry.ca import names


def endpoints(context: Context, service: str) -> tuple[Endpoint, ...]:
    """Those that can be spoken to; the others are Problems."""
    resolver = context.index.find(ServiceResolver, service)
    subsets = dict(resolver.subsets) if resolver else {}
    known = {endpoint.instance.key: endpoint for endpoint in context.view.endpoints.get(service, ())}
    found = [_endpoint(context, service, known[key], subsets) for key in sorted(known)]
    return tuple(endpoint for endpoint in found if endpoint is not None)


def _endpoint(context: Context, service: str, endpoint: model.Endpoint, subsets: dict[str, Subset]) -> Endpoint | None:
    instance = endpoint.instance
    app = address.joined(instance.address, instance.port)
    inbound = address.joined(instance.inbound.address, instance.inbound.port) if instance.inbound else None
    spiffe = _identity(context, instance)
    if instance.service != service or app is None or spiffe is None or (instance.inbound and inbound is None):
        context.note_instance(instance, "is left out: its name or an address of it is not valid")
        return None
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


def _identity(context: Context, instance: model.Instance) -> str | None:
    try:
        return names.service_id(context.view.trust_domain, instance.service, instance.node, instance.id)
    except names.BadName:
        return None
