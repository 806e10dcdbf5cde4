from policies.compiled import Config, Service
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_proxy_config_lists_resources(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/proxy/config", Config(id=1, resources=(Service(name="api"),)))
    assert "service  api" in meshctl("proxy", "config").stdout
