from meshd.admin.shapes import Adopted
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_adopting_says_what_is_let_go(meshctl: Run, api: MeshApi) -> None:
    answer = Adopted(store_id="one.1", documents=("service-router/api",), braked={"api": 3})
    api.answer("POST", "/v1/mesh/registry/adopt", answer)
    done = meshctl("registry", "adopt", "--yes")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "store one.1 adopted",
        "let go: document service-router/api",
        "let go: 3 instances of api",
    ]


def test_adopting_nothing_is_said(meshctl: Run, api: MeshApi) -> None:
    api.answer("POST", "/v1/mesh/registry/adopt", Adopted(store_id="one.2"))
    assert "nothing was held" in meshctl("registry", "adopt", "--yes").stderr


def test_nothing_is_let_go_of_by_accident(meshctl: Run) -> None:
    done = meshctl("registry", "adopt")
    assert done.returncode == 2
    assert "--yes" in done.stderr
