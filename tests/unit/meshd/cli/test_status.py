import msgspec

from meshd.admin.shapes import NodeRow, ProblemRow, ProxyState, RegistryState, Status
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run

STATUS = Status(
    node="a",
    version="0.1.0",
    ready=True,
    not_ready=(),
    trust_domain="mesh.local",
    registry=RegistryState(kind="sqlite", reachable=True, last_event_age=0.5, index=12),
    proxy=ProxyState(connected=True, pid=7, generation=1, version="0.1.0", update=3),
    nodes=(NodeRow(name="b", address="127.0.0.2", alive=False, version="0.1.0"),),
    services=1,
    endpoints=2,
    documents=3,
    problems=(),
)


def test_status_is_0_when_all_is_well_and_shows_a_lost_lease(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/status", STATUS)
    done = meshctl("status")
    assert done.returncode == 0, done.stderr
    assert "host a  ready" in done.stdout
    assert "GONE" in done.stdout


def test_status_is_1_and_names_a_refused_document(meshctl: Run, api: MeshApi) -> None:
    problem = ProblemRow(
        document="service-router/api", reason="unknown field Rout", path="Rout", line=2, hint="Routes?"
    )
    api.answer("GET", "/v1/mesh/status", msgspec.structs.replace(STATUS, problems=(problem,)))
    done = meshctl("status")
    assert done.returncode == 1
    assert "service-router/api line 2 at Rout: REFUSED: unknown field Rout; Routes?" in done.stdout


def test_status_says_how_old_a_servers_answers_may_be(meshctl: Run, api: MeshApi) -> None:
    consul = RegistryState(kind="consul", reachable=True, last_event_age=0.5, index=12, last_contact=2.25)
    for registry, said in (
        (consul, "last contact with its leader 2.2s ago"),
        (msgspec.structs.replace(consul, led=False), "NO LEADER: reads may be old, writes fail"),
    ):
        api.answer("GET", "/v1/mesh/status", msgspec.structs.replace(STATUS, registry=registry))
        assert said in meshctl("status").stdout
    api.answer("GET", "/v1/mesh/status", STATUS)
    assert "leader" not in meshctl("status").stdout
