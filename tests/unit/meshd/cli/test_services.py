import json

import msgspec

from meshd.admin.shapes import EndpointRow, IntentionRow, ServiceRow, ServiceView, Setting
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


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
    doubted = msgspec.structs.replace(endpoint, state="suspect", ejected=False, proof="good", output="why")
    api.answer("GET", "/v1/mesh/services/api", msgspec.structs.replace(view, endpoints=(doubted,)))
    assert "suspect, good" in meshctl("service", "api").stdout
