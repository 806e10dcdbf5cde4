import json
from pathlib import Path

from meshd.admin.shapes import Applied, ApplyResult, DocumentRow
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run

RESULT = ApplyResult(
    applied=(Applied(kind="fault", name="slow", version=4, digest="aa", changed=True),), nodes=("a", "b")
)


def in_force(digest: str = "aa") -> dict[str, object]:
    return {"documents": {"fault/slow": {"digest": digest, "version": 4}}}


def test_apply_waits_until_every_host_reports_the_digest(meshctl: Run, api: MeshApi) -> None:
    api.answer("POST", "/v1/mesh/apply", RESULT)
    api.reports = {"a": in_force(), "b": in_force()}
    done = meshctl("apply", "-f", "-", "--wait", stdin="Kind: fault\n")
    assert done.returncode == 0, done.stderr
    assert "in force on 2 of 2 hosts: a, b" in done.stdout
    assert api.seen[0][2] == b"Kind: fault\n"


def test_apply_names_silent_hosts_and_fails(meshctl: Run, api: MeshApi) -> None:
    api.answer("POST", "/v1/mesh/apply", RESULT)
    api.reports = {"a": in_force()}
    done = meshctl("apply", "-f", "-", "--wait=300ms", stdin="x")
    assert done.returncode == 1
    assert "not in force: b: fault/slow silent" in done.stderr
    assert "a: fault/slow" not in done.stderr


def test_refused_documents_show_place_reason_and_hint(meshctl: Run, api: MeshApi, tmp_path: Path) -> None:
    problem = {"document": "fault/slow", "line": 3, "path": "Dellay", "reason": "unknown field", "hint": "Delay?"}
    api.answer("POST", "/v1/mesh/apply", {"error": "1 document refused", "problems": [problem]}, 400)
    file = tmp_path / "f.yaml"
    file.write_text("Kind: fault")
    done = meshctl("apply", "-f", str(file))
    assert done.returncode == 1
    assert "fault/slow 3:Dellay: unknown field" in done.stderr
    assert "hint: Delay?" in done.stderr


def test_a_missing_file_is_usage(meshctl: Run) -> None:
    done = meshctl("apply", "-f", "/nowhere.yaml")
    assert done.returncode == 2
    assert "/nowhere.yaml" in done.stderr


def test_get_lists_and_prints_raw(meshctl: Run, api: MeshApi) -> None:
    row = DocumentRow(kind="fault", name="slow", version=4, digest="aabb", state="in-force")
    api.answer("GET", "/v1/mesh/documents", [row])
    api.answer("GET", "/v1/mesh/documents/fault/slow", b"Kind: fault # mine\n")
    assert json.loads(meshctl("get", "-o", "json").stdout)[0]["digest"] == "aabb"
    assert "fault  slow  4" in meshctl("get").stdout
    assert meshctl("get", "fault/slow").stdout == "Kind: fault # mine\n"


def test_delete_says_what_happens(meshctl: Run, api: MeshApi) -> None:
    api.answer("POST", "/v1/mesh/delete", {"index": 9})
    done = meshctl("delete", "fault/*", "fault/slow")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("back to the default") == 2
    assert json.loads(api.seen[-1][2]) == {"documents": ["fault/*", "fault/slow"]}
    assert meshctl("delete", "fault").returncode == 2
