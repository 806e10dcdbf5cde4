"""`/v1/mesh/*` over HTTP against one host: shapes, refusals, and who may call what."""

from pathlib import Path

import aiohttp
import msgspec
import pytest

from meshd.admin import shapes
from meshd.admin.api import ROUTES, Desk
from meshd.config import restore
from policies.compiled import Config, Stats
from registry import keys
from tests.unit.meshd.conftest import Single, until

ALLOW = "Kind: service-intentions\nName: web\nSources: [{Name: api, Action: allow}]\n"
SPLIT = "Kind: service-splitter\nName: web\nSplits: [{Weight: 100, ServiceSubset: v9}]\n"


async def test_status_has_the_agreed_shape(single: Single) -> None:
    status, body = await single.call("GET", "/v1/mesh/status")
    assert status == 200
    shown = msgspec.convert(body, shapes.Status)
    assert (shown.node, shown.ready, shown.proxy.connected, shown.registry.reachable) == ("a", True, True, True)
    assert [node.name for node in shown.nodes] == ["a"]
    assert any("development" in warning for warning in shown.warnings)


async def test_services_and_one_service(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80, Tags=["v1"])
    await until("known", lambda: single.agent.fold.services)
    _, rows = await single.call("GET", "/v1/mesh/services")
    assert msgspec.convert(rows, list[shapes.ServiceRow])[0].passing == 1
    status, view = await single.call("GET", "/v1/mesh/services/web")
    shown = msgspec.convert(view, shapes.ServiceView)
    assert status == 200
    assert shown.endpoints[0].name == "web/a/web-1"
    assert shown.intentions[-1].action == "deny"
    assert (await single.call("GET", "/v1/mesh/services/absent"))[0] == 404


async def test_apply_writes_and_records_the_history(single: Single) -> None:
    status, body = await single.apply(ALLOW)
    result = msgspec.convert(body, shapes.ApplyResult)
    assert (status, result.applied[0].changed, result.nodes) == (200, True, ("a",))
    again = msgspec.convert((await single.apply(ALLOW))[1], shapes.ApplyResult)
    assert not again.applied[0].changed
    assert again.applied[0].digest == result.applied[0].digest
    past = await single.store.get(keys.history("service-intentions", "web", result.applied[0].version))
    assert past is not None
    assert b"allow" in past.value


async def test_apply_refuses_everything_when_one_document_is_bad(single: Single) -> None:
    status, body = await single.apply(ALLOW + "---\nKind: service-router\nName: web\nRoute: []\n")
    assert status == 400
    rows = msgspec.convert(body["problems"], list[shapes.ProblemRow])
    assert rows[0].document == "service-router/web"
    assert "Routes" in rows[0].hint
    assert await single.store.get(keys.policy("service-intentions", "web")) is None


async def test_apply_twice_in_one_file_is_refused(single: Single) -> None:
    status, body = await single.apply(ALLOW + "---\n" + ALLOW)
    assert status == 400
    assert "twice" in body["error"]


async def test_dry_run_writes_nothing(single: Single) -> None:
    status, _ = await single.call("POST", "/v1/mesh/apply?dry_run=1", ALLOW.encode())
    assert status == 200
    assert await single.store.get(keys.policy("service-intentions", "web")) is None


async def test_faults_across_documents_are_warnings(single: Single) -> None:
    await single.apply("Kind: service-defaults\nName: web\nProtocol: http\n")
    await until("known", lambda: single.agent.documents.good)
    status, body = await single.apply(SPLIT)
    assert status == 200
    assert any("v9" in row["reason"] for row in body["warnings"]), body


async def test_documents_are_listed_read_and_deleted(single: Single) -> None:
    await single.apply(ALLOW)
    await until("known", lambda: single.agent.documents.good)
    _, rows = await single.call("GET", "/v1/mesh/documents")
    assert msgspec.convert(rows, list[shapes.DocumentRow])[0].state == "in-force"
    assert await single.call("GET", "/v1/mesh/documents/service-intentions/web") == (200, ALLOW.encode())
    status, body = await single.call("DELETE", "/v1/mesh/documents/service-intentions/web")
    assert status == 200
    assert body["index"] > 0
    assert (await single.call("GET", "/v1/mesh/documents/service-intentions/web"))[0] == 404
    assert (await single.call("DELETE", "/v1/mesh/documents/service-intentions/web"))[0] == 404
    assert (await single.call("GET", "/v1/mesh/documents/service-intentions/..%2Fx"))[0] in (400, 404)


async def test_certificates_and_roots(single: Single) -> None:
    _, rows = await single.call("GET", "/v1/mesh/certs")
    assert {row.name for row in msgspec.convert(rows, list[shapes.CertRow])} == {"node", "role"}
    _, roots = await single.call("GET", "/v1/mesh/roots")
    assert roots["trust_domain"] == "mesh.local"
    assert len(roots["roots"][0]["hash"]) == 64


async def test_tokens_are_made_and_their_text_is_not_logged(single: Single) -> None:
    status, body = await single.call("POST", "/v1/mesh/tokens", {"kind": "join", "node": "b", "services": ["api"]})
    answer = msgspec.convert(body, shapes.TokenAnswer)
    assert status == 200
    assert len(answer.root_hash) == 64
    assert answer.token not in str(single.log.lines)
    status, body = await single.call("POST", "/v1/mesh/tokens", {"kind": "join", "node": "../x"})
    assert status == 403


async def test_revocations_reach_the_proxy(single: Single) -> None:
    uri = "spiffe://mesh.local/svc/api/n/b/i/api-1"
    status, _ = await single.call("POST", "/v1/mesh/revocations", {"identity": uri, "reason": "stolen"})
    assert status == 200

    def revoked() -> bool:
        trust = single.held("trust/trust")
        return bool(trust and [one for one in trust.get("revoked", []) if one["spiffe"] == uri])

    await until("the proxy knows", revoked)
    assert (await single.call("POST", "/v1/mesh/revocations", {"reason": "x"}))[0] == 400


async def test_proxy_config_and_stats_have_the_contracts_shapes(single: Single) -> None:
    _, config = await single.call("GET", "/v1/mesh/proxy/config")
    assert {"settings", "trust"} <= {one.name for one in msgspec.convert(config, Config).resources}
    _, stats = await single.call("GET", "/v1/mesh/proxy/stats")
    assert msgspec.convert(stats, Stats).started == 1.0


async def test_without_a_proxy_its_routes_say_so(single: Single) -> None:
    single.agent.dataplane.detach()
    for path in ("config", "stats"):
        assert (await single.call("GET", f"/v1/mesh/proxy/{path}"))[0] == 503
    assert (await single.call("GET", "/v1/mesh/services"))[0] == 200


async def test_explain_needs_names_and_a_program(single: Single) -> None:
    assert (await single.call("POST", "/v1/mesh/explain", {"source": "a b", "destination": "api"}))[0] == 400
    assert (await single.call("POST", "/v1/mesh/explain", {"source": "web"}))[0] == 400
    # the fake's program knows `run` alone: what it says instead of an answer is passed on
    status, body = await single.call("POST", "/v1/mesh/explain", {"source": "web", "destination": "api"})
    assert status == 503
    assert "explain" in body["error"]


def test_every_route_has_a_handler() -> None:
    desk = Desk(None, None)  # type: ignore[arg-type] - looking up handlers touches neither
    assert {desk.handler(method, path) for method, path, _, _ in ROUTES}


@pytest.mark.parametrize(("method", "path", "body"), [
    ("POST", "/v1/mesh/apply", ALLOW),
    ("DELETE", "/v1/mesh/documents/service-intentions/web", ""),
    ("POST", "/v1/mesh/delete", '{"documents": ["service-intentions/web"]}'),
    ("POST", "/v1/mesh/tokens", '{"kind": "operator", "name": "eve"}'),
    ("POST", "/v1/mesh/revocations", '{"serial": "00"}'),
    ("POST", "/v1/mesh/registry/adopt", "{}"),
])  # fmt: skip
async def test_over_tcp_without_a_credential_nothing_is_written(
    guarded: Single, method: str, path: str, body: str
) -> None:
    status, answer = await guarded.call(method, path, body.encode())
    assert status == 403, answer
    assert answer["hint"] or answer["error"]


async def test_an_operators_token_applies_and_root_over_the_socket_too(guarded: Single) -> None:
    path = guarded.host.run / "api.sock"
    async with aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session:
        wanted = {"kind": "operator", "name": "ada"}
        async with session.post("http://localhost/v1/mesh/tokens", json=wanted) as answer:
            token = (await answer.json())["token"]
    url = f"http://{guarded.host.loopback}:{guarded.host.ports.api}/v1/mesh/apply"
    async with guarded.session.post(url, data=ALLOW, headers={"X-Consul-Token": token}) as answer:
        assert answer.status == 200
        version = (await answer.json())["applied"][0]["version"]
    past = await guarded.store.get(keys.history("service-intentions", "web", version))
    assert past is not None
    assert b"ada" in past.value


async def test_reads_are_open_over_tcp(guarded: Single) -> None:
    for path in ("/v1/mesh/status", "/v1/mesh/services", "/v1/mesh/documents", "/v1/mesh/certs", "/v1/mesh/roots"):
        assert (await guarded.call("GET", path))[0] == 200, path


async def test_settings_are_shown_as_they_are_in_force(single: Single) -> None:
    status, found = await single.call("GET", "/v1/mesh/settings")
    assert status == 200
    assert restore(found) == single.agent.host


async def test_settings_are_for_administrators(guarded: Single) -> None:
    assert (await guarded.call("GET", "/v1/mesh/settings"))[0] == 403


def test_no_secret_in_a_shape() -> None:
    text = (Path(shapes.__file__)).read_text()
    assert "private_key" not in text


async def test_a_wiped_stores_documents_are_held_until_adopted(single: Single) -> None:
    agent = single.agent
    await single.apply(ALLOW)
    name = ("service-intentions", "web")
    await until("in force", lambda: name in agent.documents.good and agent.fold.pinned)
    before = agent.fold.pinned
    await single.store.delete(keys.STORE_ID)
    await until("in doubt", lambda: agent.fold.foreign)
    await single.store.delete(keys.policy(*name))
    await until("held", lambda: agent.fold.held_documents)
    _, rows = await single.call("GET", "/v1/mesh/documents")
    assert [row["state"] for row in rows] == ["held"]
    _, status = await single.call("GET", "/v1/mesh/status")
    assert "wiped" in status["registry"]["foreign"]
    assert any("meshctl registry adopt" in line for line in status["warnings"])
    _, page = await single.call("GET", "/metrics", admin=True)
    assert b"meshd_registry_store_foreign 1.0" in page
    assert b'meshd_registry_held{prefix="policy/"} 1.0' in page
    code, answer = await single.call("POST", "/v1/mesh/registry/adopt", {})
    assert code == 200
    adopted = msgspec.convert(answer, shapes.Adopted)
    assert adopted.documents == ("service-intentions/web",)
    assert adopted.store_id == f"{before}.1"
    entry = await single.store.get(keys.STORE_ID)
    assert entry is not None
    assert entry.value.decode() == adopted.store_id
    assert name not in agent.documents.good
    assert (agent.fold.foreign, agent.fold.held) == ("", {})


async def test_adopting_an_adopted_store_counts_on(single: Single) -> None:
    await until("known", lambda: single.agent.fold.pinned)
    first = (await single.call("POST", "/v1/mesh/registry/adopt", {}))[1]["store_id"]
    second = (await single.call("POST", "/v1/mesh/registry/adopt", {}))[1]["store_id"]
    assert (first.rpartition(".")[2], second.rpartition(".")[2]) == ("1", "2")
