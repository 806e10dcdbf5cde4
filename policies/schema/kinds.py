"""All kinds: what each is read with, and which names are known but not built yet."""

from types import MappingProxyType
from typing import Final

from policies.schema import (
    fault,
    mesh,
    service_defaults,
    service_intentions,
    service_resolver,
    service_router,
    service_splitter,
)
from policies.schema.fault import Fault
from policies.schema.mesh import Mesh
from policies.schema.service_defaults import ServiceDefaults
from policies.schema.service_intentions import ServiceIntentions
from policies.schema.service_resolver import ServiceResolver
from policies.schema.service_router import ServiceRouter
from policies.schema.service_splitter import ServiceSplitter
from policies.schema.shape import Shape

AnyDocument = Mesh | ServiceDefaults | ServiceRouter | ServiceSplitter | ServiceResolver | ServiceIntentions | Fault

KINDS: Final = MappingProxyType(
    {
        Mesh.kind: mesh.SHAPE,
        ServiceDefaults.kind: service_defaults.SHAPE,
        ServiceRouter.kind: service_router.SHAPE,
        ServiceSplitter.kind: service_splitter.SHAPE,
        ServiceResolver.kind: service_resolver.SHAPE,
        ServiceIntentions.kind: service_intentions.SHAPE,
        Fault.kind: fault.SHAPE,
    }
)

# Ours that come later, and Consul's that have a meaning in a mesh.
LATER: Final = (
    "api-gateway",
    "exported-services",
    "http-route",
    "ingress-gateway",
    "jwt-provider",
    "proxy-defaults",
    "rate-limit",
    "role-follow",
    "rollout",
    "sameness-group",
    "tcp-route",
    "terminating-gateway",
)

# Added by `consul config read`; they describe the stored entry, not the service.
BOOKKEEPING: Final = ("CreateIndex", "ModifyIndex", "Hash", "Meta")


def shape(kind: str) -> Shape | None:
    return KINDS.get(kind)
