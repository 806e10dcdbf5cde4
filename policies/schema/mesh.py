"""Kind `mesh`, the one document `config/mesh`: defaults of the whole mesh."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from policies.schema import values
from policies.schema.document import Base
from policies.schema.retry import BUDGET, Budget
from policies.schema.shape import Field, Shape, scalar
from policies.schema.tree import Scalar


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
class Registry:
    """What hosts make of a registry that loses much or stays away. None: the default of `registry.brake` and of
    `meshd.control.cold_start`. `max_removal` in hundredths of a percent; `flap_half_life_ms` 0: nothing is damped."""

    max_removal: int | None = None
    window_ms: int | None = None
    max_snapshot_age_ms: int | None = None
    flap_half_life_ms: int | None = None


@dataclass(frozen=True, kw_only=True)
class Mesh(Base):
    kind: ClassVar[str] = "mesh"

    default_intention: Literal["allow", "deny"] | None = None
    mutual_tls_mode: Literal["strict"] = "strict"
    retry_budget: Budget | None = None
    access_log: AccessLog = AccessLog()
    explain_denials: bool = False
    tracing: Tracing = Tracing()
    registry: Registry = Registry()


ACCESS_LOG = Shape(
    AccessLog,
    (
        Field("Enabled", "enabled", scalar(values.boolean)),
        Field("SamplePercent", "sample", scalar(values.percent)),
    ),
    later=("Fields",),
)

TRACING = Shape(Tracing, (Field("SamplingPercent", "sampling", scalar(values.percent)),), later=("Endpoint",))

MAX_AGE_MS = 365 * 24 * 3_600_000


def _age(value: Scalar) -> int:
    return values.duration(value, low=1000, high=MAX_AGE_MS)


MAX_HALF_LIFE_MS = 3_600_000  # RFC 2439 holds a route for four half-lives: longer ones would outlive their cause


def _half_life(value: Scalar) -> int:
    return values.duration(value, low=0, high=MAX_HALF_LIFE_MS)


REGISTRY = Shape(
    Registry,
    (
        Field("MaxRemovalPercent", "max_removal", scalar(values.percent)),
        Field("Window", "window_ms", scalar(values.duration)),
        Field("MaxSnapshotAge", "max_snapshot_age_ms", scalar(_age)),
        Field("FlapHalfLife", "flap_half_life_ms", scalar(_half_life)),
    ),
)

SHAPE = Shape(
    Mesh,
    (
        Field("DefaultIntention", "default_intention", scalar(values.one_of("deny", "allow"))),
        Field("MutualTLSMode", "mutual_tls_mode", scalar(values.one_of("strict", later=("permissive",)))),
        Field("RetryBudget", "retry_budget", BUDGET),
        Field("AccessLog", "access_log", ACCESS_LOG),
        Field("ExplainDenials", "explain_denials", scalar(values.boolean)),
        Field("Tracing", "tracing", TRACING),
        Field("Registry", "registry", REGISTRY),
    ),
    later=(
        "Deadline",
        "TransparentProxy",
        "TLS",
        "HTTP",
        "Peering",
        "AllowEnablingPermissiveMutualTLS",
        "ValidateClusters",
    ),
)
