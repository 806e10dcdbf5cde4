import json

from meshd.admin.shapes import CertRow
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run


def test_cert_list_and_revoke(meshctl: Run, api: MeshApi) -> None:
    row = CertRow(name="node", spiffe="spiffe://m/node/a", serial="ab", not_before="1", not_after="2", renew_at="3")
    api.answer("GET", "/v1/mesh/certs", [row])
    api.answer("POST", "/v1/mesh/revocations", {"index": 4})
    assert "spiffe://m/node/a" in meshctl("cert", "list").stdout
    assert meshctl("cert", "revoke", "spiffe://m/node/b", "--reason", "stolen").returncode == 0
    assert json.loads(api.seen[-1][2]) == {"identity": "spiffe://m/node/b", "reason": "stolen"}
