"""Kind `service-intentions`: who may call a service, and what.

Source: https://developer.hashicorp.com/consul/docs/connect/config-entries/service-intentions
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.schema import values
from policies.schema.document import Base
from policies.schema.matching import PERMISSION_HTTP, HttpMatch
from policies.schema.shape import Field, Shape, list_of, scalar

Action = Literal["allow", "deny"]


@dataclass(frozen=True, kw_only=True)
class Permission:
    """`http` has at least one condition (validated): a forgotten one would be a rule for everything."""

    action: Action
    http: HttpMatch | None = None


@dataclass(frozen=True, kw_only=True)
class IntentionSource:
    """`name`: a service or `*`. Either an action or permissions (validated)."""

    name: str
    action: Action | None = None
    permissions: tuple[Permission, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ServiceIntentions(Base):
    kind: ClassVar[str] = "service-intentions"

    sources: tuple[IntentionSource, ...]


_ACTION = scalar(values.optional(values.one_of("allow", "deny", later=("audit",))))

PERMISSION = Shape(
    Permission,
    (
        Field("Action", "action", scalar(values.one_of("allow", "deny", later=("audit",))), required=True),
        Field("HTTP", "http", PERMISSION_HTTP, required=True),
    ),
    later=("JWT",),
)

SOURCE = Shape(
    IntentionSource,
    (
        Field("Name", "name", scalar(values.service_or_any), required=True),
        Field("Action", "action", _ACTION),
        Field("Permissions", "permissions", list_of(PERMISSION)),
    ),
    later=("SPIFFE", "Peer", "SamenessGroup"),
    fixed=(("Type", "consul"),),  # the one type of source that Consul has
    dropped=(
        "Description",
        "Precedence",  # computed by Consul from the names, as here
        "LegacyID",
        "LegacyMeta",
        "LegacyCreateTime",
        "LegacyUpdateTime",
    ),
)

SHAPE = Shape(
    ServiceIntentions,
    (Field("Sources", "sources", list_of(SOURCE), required=True),),
    later=("JWT",),
)
