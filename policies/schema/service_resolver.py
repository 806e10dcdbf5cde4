"""Kind `service-resolver`: a service's subsets, and how it is reached.

Source: https://developer.hashicorp.com/consul/docs/connect/config-entries/service-resolver
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

from policies import filter as filters
from policies.schema import values
from policies.schema.document import Base
from policies.schema.shape import Field, Refused, Shape, map_of, scalar
from policies.schema.tree import Scalar


@dataclass(frozen=True, kw_only=True)
class Subset:
    """Instances for which `filter` holds (None: all); `only_passing`: those of them in state passing."""

    filter: filters.Expression | None = None
    only_passing: bool = False


@dataclass(frozen=True, kw_only=True)
class ServiceResolver(Base):
    """None: not said. `request_timeout_ms` 0: no limit."""

    kind: ClassVar[str] = "service-resolver"

    default_subset: str | None = None
    subsets: Mapping[str, Subset] = field(default_factory=dict)
    connect_timeout_ms: int | None = None
    request_timeout_ms: int | None = None


def expression(value: Scalar) -> filters.Expression | None:
    """A filter expression; its own position becomes part of the reason."""
    if not value.text.strip():
        return None
    parsed = filters.parse(value.text)
    if isinstance(parsed, filters.Fault):
        raise Refused(f"{parsed.reason} (at character {parsed.at + 1} of the filter)", parsed.hint)
    return parsed


SUBSET = Shape(
    Subset,
    (
        Field("Filter", "filter", scalar(expression)),
        Field("OnlyPassing", "only_passing", scalar(values.boolean)),
    ),
)

SHAPE = Shape(
    ServiceResolver,
    (
        Field("DefaultSubset", "default_subset", scalar(values.optional(values.subset_name))),
        Field("Subsets", "subsets", map_of(values.subset_name, SUBSET)),
        Field("ConnectTimeout", "connect_timeout_ms", scalar(values.duration)),
        Field("ConnectTimeoutMs", "connect_timeout_ms", scalar(values.milliseconds)),
        Field("RequestTimeout", "request_timeout_ms", scalar(values.timeout)),
    ),
    later=("Redirect", "Failover", "LoadBalancer", "PrioritizeByLocality"),
)
