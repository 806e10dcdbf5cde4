import json

from policies.compiled import Decision, Explanation
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_explain_exits_1_when_denied(meshctl: Run, api: MeshApi) -> None:
    decision = Decision(stage="authorize", verdict="deny", origin="service-intentions/api#Sources[0]@5")
    api.answer("POST", "/v1/mesh/explain", Explanation(verdict="deny", decisions=(decision,)))
    done = meshctl("explain", "--from", "web", "--to", "api", "--path", "/x", "-H", "X-A: 1")
    assert done.returncode == 1
    assert "service-intentions/api#Sources[0]@5" in done.stdout
    assert json.loads(api.seen[0][2])["headers"] == [["x-a", "1"]]
