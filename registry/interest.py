"""What a host has to follow of a store, from what it calls and hosts. Pure.

A host's cost must not grow with the mesh: it follows the endpoints of the services that its requests may end at, and
the documents that may apply to them by name: the service's own, each pattern that it matches (`web` may be meant by
`w*`, `we*` and `web*`), and `*`. All of these are exact keys. Where a store pays for each watch, a host that would
need more than `budget` of them follows all documents, and if need be all services, with one watch each.
"""

from collections.abc import Iterable

import msgspec

from registry import keys

BASE = frozenset((keys.CONFIG, keys.LEASES, keys.CA_ROOTS, keys.REVOCATIONS, keys.STORE_ID))
EVERYTHING = BASE | {keys.SERVICES, keys.POLICY}

CALLER_KINDS = ("service-defaults", "service-router", "service-splitter", "service-resolver")
HOST_KINDS = ("service-defaults", "service-intentions")
UNNAMED_KINDS = ("fault",)  # named freely: which service an experiment is about stands in it


class Interest(msgspec.Struct, frozen=True, kw_only=True):
    """`called`: services that requests from here may end at, and what callers decide by on the way there; `hosted`:
    services with an instance here; `all_policy`: this host keeps record of every document (it has a role)."""

    called: frozenset[str] = frozenset()
    hosted: frozenset[str] = frozenset()
    all_policy: bool = False


def selectors(interest: Interest, budget: int | None = None, before: frozenset[str] = frozenset()) -> frozenset[str]:
    """What to watch. `budget`: how many watches the store should stay below; None: many are cheap.

    `before`: what is watched now. A host that has gone over its budget once stays with the wide watches: going to and
    fro would list everything each time.
    """
    services = frozenset(map(endpoints, interest.called | interest.hosted))
    policy = frozenset((keys.POLICY,)) if interest.all_policy else documents(interest)
    if budget is not None:
        if keys.POLICY in before or len(BASE) + len(services) + len(policy) > budget:
            policy = frozenset((keys.POLICY,))
        if keys.SERVICES in before or len(BASE) + len(services) + len(policy) > budget:
            services = frozenset((keys.SERVICES,))
    return BASE | services | policy


def endpoints(service: str) -> str:
    """The selector of a service's instances."""
    return f"{keys.SERVICES}{service}/"


def documents(interest: Interest) -> frozenset[str]:
    """Selectors of all documents that may decide about what is called and hosted."""
    found = {f"{keys.POLICY}{kind}/" for kind in UNNAMED_KINDS}
    found |= {key for name in interest.called for key in _keys(CALLER_KINDS, name)}
    found |= {key for name in interest.hosted for key in _keys(HOST_KINDS, name)}
    return frozenset(found)


def calling(service: str) -> frozenset[str]:
    """What must be known before requests to a service may be sent as its documents and its instances say."""
    return frozenset((endpoints(service), *_keys(CALLER_KINDS, service)))


def hosting(service: str) -> frozenset[str]:
    """What must be known before requests to an instance here may be let in."""
    return frozenset(_keys(HOST_KINDS, service))


def patterns(service: str) -> tuple[str, ...]:
    """Names of documents that may be meant for a service, as `policies.select` finds them."""
    return (service, *(f"{service[:length]}*" for length in range(len(service) + 1)))


def concerns(interest: Interest, kind: str, name: str) -> bool:
    """Does a host with this interest follow the document?"""
    if interest.all_policy or kind in ("mesh", *UNNAMED_KINDS):
        return True
    services = interest.called if kind in CALLER_KINDS else frozenset[str]()
    services |= interest.hosted if kind in HOST_KINDS else frozenset[str]()
    return any(name == service or (name.endswith("*") and service.startswith(name[:-1])) for service in services)


def _keys(kinds: Iterable[str], service: str) -> Iterable[str]:
    return (keys.policy(kind, name) for kind in kinds for name in patterns(service))
