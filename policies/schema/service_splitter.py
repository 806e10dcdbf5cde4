"""Kind `service-splitter`: a service's requests divided by weight.

Source: https://developer.hashicorp.com/consul/docs/connect/config-entries/service-splitter
"""

from dataclasses import dataclass
from typing import ClassVar

from policies.schema import values
from policies.schema.document import Base
from policies.schema.headers import HEADERS, HeaderEdits
from policies.schema.shape import Field, Shape, list_of, scalar


@dataclass(frozen=True, kw_only=True)
class Part:
    """One side. `weight` per ten thousand; `service` None: the split service itself."""

    weight: int
    service: str | None = None
    service_subset: str | None = None
    request_headers: HeaderEdits | None = None
    response_headers: HeaderEdits | None = None


@dataclass(frozen=True, kw_only=True)
class ServiceSplitter(Base):
    """Weights sum to 10000 (validated)."""

    kind: ClassVar[str] = "service-splitter"

    splits: tuple[Part, ...]


PART = Shape(
    Part,
    (
        Field("Weight", "weight", scalar(values.percent), required=True),
        Field("Service", "service", scalar(values.optional(values.service_name))),
        Field("ServiceSubset", "service_subset", scalar(values.optional(values.subset_name))),
        Field("RequestHeaders", "request_headers", HEADERS),
        Field("ResponseHeaders", "response_headers", HEADERS),
    ),
)

SHAPE = Shape(ServiceSplitter, (Field("Splits", "splits", list_of(PART), required=True),), later=("Sticky",))
