"""status, services, explain, cert, proxy, token: what people and programs see."""

import json
import stat
from pathlib import Path

import msgspec

from meshd.admin.shapes import (
    CertRow,
    EndpointRow,
    IntentionRow,
    NodeRow,
    ProblemRow,
    ProxyState,
    RegistryState,
    ServiceRow,
    ServiceView,
    Setting,
    Status,
    TokenAnswer,
)
from policies.compiled import Config, Decision, Explanation, Service
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
    assert "service-router/api line 2 at Rout: REFUSED (last good kept): unknown field Rout; Routes?" in done.stdout


def test_services_in_all_formats(meshctl: Run, api: MeshApi) -> None:
    row = ServiceRow(name="api", protocol="http", passing=3, warning=0, critical=0, suspect=0, draining=0, ejected=0)
    api.answer("GET", "/v1/mesh/services", [row])
    assert "api      http      3" in meshctl("services").stdout
    assert json.loads(meshctl("services", "-o", "json").stdout)[0]["passing"] == 3
    assert "- name: api" in meshctl("services", "-o", "yaml").stdout


def test_service_shows_who_set_what(meshctl: Run, api: MeshApi) -> None:
    endpoint = EndpointRow(
        name="api/b/api-1", node="b", address="127.0.0.2:80", inbound="127.0.0.2:15443", state="passing", ejected=True,
        subsets=("v1",), tags=(), ewma_ms=1.5, output="",
    )  # fmt: skip
    view = ServiceView(
        name="api", protocol="http", endpoints=(endpoint,), routes=(), faults=(),
        settings=(Setting(name="connect timeout", value="1s", origin="default#upstream"),),
        intentions=(IntentionRow(source="web", action="allow", origin="service-intentions/api#Sources[0]@5"),),
    )  # fmt: skip
    api.answer("GET", "/v1/mesh/services/api", view)
    text = meshctl("service", "api").stdout
    assert "passing, ejected" in text
    assert "service-intentions/api#Sources[0]@5" in text
    assert "default#upstream" in text


def test_explain_exits_1_when_denied(meshctl: Run, api: MeshApi) -> None:
    decision = Decision(stage="authorize", verdict="deny", origin="service-intentions/api#Sources[0]@5")
    api.answer("POST", "/v1/mesh/explain", Explanation(verdict="deny", decisions=(decision,)))
    done = meshctl("explain", "--from", "web", "--to", "api", "--path", "/x", "-H", "X-A: 1")
    assert done.returncode == 1
    assert "service-intentions/api#Sources[0]@5" in done.stdout
    assert json.loads(api.seen[0][2])["headers"] == [["x-a", "1"]]


def test_cert_list_and_revoke(meshctl: Run, api: MeshApi) -> None:
    row = CertRow(name="node", spiffe="spiffe://m/node/a", serial="ab", not_before="1", not_after="2", renew_at="3")
    api.answer("GET", "/v1/mesh/certs", [row])
    api.answer("POST", "/v1/mesh/revocations", {"index": 4})
    assert "spiffe://m/node/a" in meshctl("cert", "list").stdout
    assert meshctl("cert", "revoke", "spiffe://m/node/b", "--reason", "stolen").returncode == 0
    assert json.loads(api.seen[-1][2]) == {"identity": "spiffe://m/node/b", "reason": "stolen"}


def test_proxy_config_lists_resources(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/proxy/config", Config(id=1, resources=(Service(name="api"),)))
    assert "service  api" in meshctl("proxy", "config").stdout


def test_a_token_file_is_private_and_never_overwritten(meshctl: Run, api: MeshApi, tmp_path: Path) -> None:
    api.answer("POST", "/v1/mesh/tokens", TokenAnswer(token="s3cret", expires="soon", root_hash="ff"))
    out = tmp_path / "join"
    done = meshctl("token", "create", "--node", "b", "--service", "api", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert out.read_text() == "s3cret\n"
    assert stat.S_IMODE(out.stat().st_mode) == 0o600
    assert "s3cret" not in done.stdout
    assert meshctl("token", "create", "--node", "b", "--out", str(out)).returncode == 2


def test_a_token_needs_exactly_one_purpose(meshctl: Run) -> None:
    assert meshctl("token", "create").returncode == 2
    assert meshctl("token", "create", "--node", "b", "--operator", "ada").returncode == 2
