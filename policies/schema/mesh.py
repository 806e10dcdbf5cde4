"""Kind `mesh`, the one document `config/mesh`: defaults of the whole mesh."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.schema import values
from policies.schema.document import Base
from policies.schema.retry import BUDGET, Budget
from policies.schema.shape import Field, Shape, scalar


@dataclass(frozen=True, kw_only=True)
class AccessLog:
    """`sample` per ten thousand."""

    enabled: bool = True
    sample: int = 10_000


@dataclass(frozen=True, kw_only=True)
class Tracing:
    """`sampling` per ten thousand: the sampled flag of new traces."""

    sampling: int = 0


@dataclass(frozen=True, kw_only=True)
class Mesh(Base):
    kind: ClassVar[str] = "mesh"

    default_intention: Literal["allow", "deny"] | None = None
    mutual_tls_mode: Literal["strict"] = "strict"
    retry_budget: Budget | None = None
    access_log: AccessLog = AccessLog()
    explain_denials: bool = False
    tracing: Tracing = Tracing()


ACCESS_LOG = Shape(
    AccessLog,
    (
        Field("Enabled", "enabled", scalar(values.boolean)),
        Field("SamplePercent", "sample", scalar(values.percent)),
    ),
    later=("Fields",),
)

TRACING = Shape(Tracing, (Field("SamplingPercent", "sampling", scalar(values.percent)),), later=("Endpoint",))

SHAPE = Shape(
    Mesh,
    (
        Field("DefaultIntention", "default_intention", scalar(values.one_of("deny", "allow"))),
        Field("MutualTLSMode", "mutual_tls_mode", scalar(values.one_of("strict", later=("permissive",)))),
        Field("RetryBudget", "retry_budget", BUDGET),
        Field("AccessLog", "access_log", ACCESS_LOG),
        Field("ExplainDenials", "explain_denials", scalar(values.boolean)),
        Field("Tracing", "tracing", TRACING),
    ),
    later=(
        "Registry",
        "Deadline",
        "TransparentProxy",
        "TLS",
        "HTTP",
        "Peering",
        "AllowEnablingPermissiveMutualTLS",
        "ValidateClusters",
    ),
)
