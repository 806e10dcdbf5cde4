"""Kind mesh."""

from policies.schema.mesh import AccessLog, Mesh, Registry, Tracing
from policies.schema.retry import Budget
from tests.unit.policies.build import document, problem


def test_everything_that_it_may_say() -> None:
    text = """
DefaultIntention: allow
MutualTLSMode: strict
RetryBudget: {Percent: 10, MinPerSecond: 5}
AccessLog: {Enabled: false, SamplePercent: 1}
ExplainDenials: true
Tracing: {SamplingPercent: 0.1}
Registry: {MaxRemovalPercent: 30, Window: 2m, MaxSnapshotAge: 72h, FlapHalfLife: 30s}
"""
    assert document("mesh", "mesh", text, 4) == Mesh(
        name="mesh",
        version=4,
        default_intention="allow",
        retry_budget=Budget(percent=1000, min_per_second=5),
        access_log=AccessLog(enabled=False, sample=100),
        explain_denials=True,
        tracing=Tracing(sampling=10),
        registry=Registry(
            max_removal=3000, window_ms=120_000, max_snapshot_age_ms=72 * 3_600_000, flap_half_life_ms=30_000
        ),
    )


def test_permissive_is_not_supported_yet() -> None:
    found = problem("mesh", "mesh", "MutualTLSMode: permissive")
    assert found.reason == "permissive is not supported yet"
    assert found.path == "MutualTLSMode"


def test_later_fields_are_named() -> None:
    assert problem("mesh", "mesh", "Tracing: {Endpoint: 'http://x'}").path == "Tracing.Endpoint"
    assert problem("mesh", "mesh", "Deadline: {Default: 5s}").reason == "Deadline is not supported yet"


def test_there_is_one_mesh() -> None:
    assert problem("mesh", "other", "ExplainDenials: true").path == "Name"


def test_damping_may_be_switched_off_and_not_last_for_days() -> None:
    found = document("mesh", "mesh", "Registry: {FlapHalfLife: 0s}", 1)
    assert isinstance(found, Mesh)
    assert found.registry.flap_half_life_ms == 0
    assert problem("mesh", "mesh", "Registry: {FlapHalfLife: 2h}").path == "Registry.FlapHalfLife"


def test_a_snapshot_may_be_old_but_not_without_bound() -> None:
    assert problem("mesh", "mesh", "Registry: {MaxSnapshotAge: 9000h}").path == "Registry.MaxSnapshotAge"
