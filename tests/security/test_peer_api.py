"""The registry's API against joined hosts, and callers that have not joined (security.md classes 43 and 44)."""

import json

from registry.api.access import ROUTES, Access
from registry.backends.sqlite import SqliteStore
from tests.fakes.served import Serve, ask, deps, serve, store

__all__ = ["deps", "serve", "store"]

OPERATOR = {"X-Consul-Token": "good"}


def verify(token: str) -> str | None:
    return "ana" if token == "good" else None


async def test_without_a_certificate_no_route_of_the_registry_answers(serve: Serve) -> None:
    client = await serve(peer="", verify_token=verify)
    for route in ROUTES:
        if not route.peer:
            continue
        path = route.path.replace("{key:.*}", "mesh/v1/config/mesh").replace("{name}", "web")
        path = path.replace("{id}", "x").replace("{node}", "n1").replace("{state}", "any")
        for headers in ({}, OPERATOR):
            status, _ = await ask(client, route.method, path, headers=headers)
            expected = 403 if not headers else status
            assert status == expected, route.name


async def test_a_joined_host_writes_what_is_its_own(serve: Serve, store: SqliteStore) -> None:
    await store.put("mesh/v1/ca/issued/1", b"1")
    await store.put("mesh/v1/ca/roots/1", b"1")
    await store.put("elsewhere", b"1")
    client = await serve(peer="b")
    for key, status in (
        ("mesh/v1/services/web/b/web-1", 200),
        ("mesh/v1/services/web/c/web-1", 403),
        ("mesh/v1/leases/b", 200),
        ("mesh/v1/leases/c", 403),
        ("mesh/v1/nodes/c", 403),
        ("mesh/v1/status/proxies/c", 403),
        ("mesh/v1/config/mesh", 403),
        ("mesh/v1/ca/roots/2", 403),
        ("mesh/v1/ca/tokens/used/2", 403),
        ("mesh/v1/store-id", 403),
        ("elsewhere", 403),
    ):
        assert (await ask(client, "PUT", f"/v1/kv/{key}", "x"))[0] == status, key
        write = [{"KV": {"Verb": "set", "Key": key, "Value": "eA=="}}]
        assert (await ask(client, "PUT", "/v1/txn", write))[0] == status, key
    assert (await ask(client, "GET", "/v1/kv/mesh/v1/ca/roots/?recurse"))[0] == 200
    assert (await ask(client, "GET", "/v1/kv/mesh/v1/ca/issued/1"))[0] == 403
    assert (await ask(client, "GET", "/v1/kv/?recurse"))[0] == 403
    assert "issued" not in json.dumps((await ask(client, "GET", "/v1/kv/mesh/v1/?keys"))[1])
    assert (await ask(client, "GET", "/v1/agent/services"))[0] == 404


async def test_an_operators_token_on_a_hosts_connection_writes_policy(serve: Serve) -> None:
    client = await serve(peer="b", verify_token=verify)
    assert (await ask(client, "PUT", "/v1/kv/mesh/v1/config/mesh", "{}", headers=OPERATOR))[0] == 200
    assert (await ask(client, "PUT", "/v1/kv/mesh/v1/leases/b", "", headers=OPERATOR))[0] == 200
    assert (await ask(client, "PUT", "/v1/kv/elsewhere", "", headers=OPERATOR))[0] == 403
    assert (await ask(client, "PUT", "/v1/kv/mesh/v1/config/mesh", "", headers={"X-Consul-Token": "bad"}))[0] == 403


async def test_open_does_not_open_the_registry_to_other_hosts(serve: Serve) -> None:
    client = await serve(peer="b", access=Access(open=True))
    assert (await ask(client, "PUT", "/v1/kv/mesh/v1/config/mesh", "{}"))[0] == 403


async def test_a_tree_is_deleted_only_by_who_may_delete_each_of_its_keys(serve: Serve, store: SqliteStore) -> None:
    await store.put("mesh/v1/services/web/b/x", b"1")
    await store.put("mesh/v1/services/web/c/x", b"1")
    client = await serve(peer="b")
    tree = [{"KV": {"Verb": "delete-tree", "Key": "mesh/v1/services/web/b/x"}}]
    assert (await ask(client, "PUT", "/v1/txn", tree))[0] == 200
    for method, path, body in (
        ("PUT", "/v1/txn", [{"KV": {"Verb": "delete-tree", "Key": "mesh/v1/services/"}}]),
        ("DELETE", "/v1/kv/mesh/v1/services/?recurse", None),
    ):
        assert (await ask(client, method, path, body))[0] == 403
    assert [e.key for e in (await store.list("mesh/v1/services/")).entries] == ["mesh/v1/services/web/c/x"]
