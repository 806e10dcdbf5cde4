"""Sessions are leases, and belong to the host that made them."""

import json
from typing import Any

from aiohttp.test_utils import TestClient

from registry.backends.sqlite import SqliteStore
from tests.fakes.served import Serve


async def call(api: TestClient, method: str, path: str, body: Any = None) -> tuple[int, Any]:
    async with api.request(method, path, data=json.dumps(body) if body is not None else None) as answer:
        return answer.status, await answer.json()


async def test_a_session_is_made_renewed_and_destroyed(api: TestClient, store: SqliteStore) -> None:
    _, made = await call(api, "PUT", "/v1/session/create", {"Name": "x", "TTL": "15s", "Behavior": "delete"})
    session = made["ID"]
    status, [shown] = await call(api, "PUT", f"/v1/session/renew/{session}")
    assert status == 200
    assert (shown["Name"], shown["Node"], shown["TTL"], shown["Behavior"]) == ("x", "n1", "15s", "delete")
    assert [lease.name for lease in await store.leases() if lease.id == session] == ["n1/x"]
    await store.put("k", b"1", lease=session)
    assert await call(api, "PUT", f"/v1/session/destroy/{session}") == (200, True)
    assert await store.get("k") is None
    assert await call(api, "GET", f"/v1/session/info/{session}") == (200, [])
    assert (await call(api, "PUT", f"/v1/session/renew/{session}"))[0] == 404


async def test_bad_sessions_are_named(api: TestClient) -> None:
    for body, field in (
        ({"TTL": "5s"}, "TTL"),
        ({"TTL": "25h"}, "TTL"),
        ({"TTL": "soon"}, "TTL"),
        ({"Behavior": "explode"}, "Behavior"),
        ({"Nam": "x"}, "Nam"),
    ):
        status, found = await call(api, "PUT", "/v1/session/create", body)
        assert (status, found["field"]) == (400, field)


async def test_a_host_sees_all_sessions_and_ends_its_own_only(serve: Serve, store: SqliteStore) -> None:
    b, c = await serve(peer="b"), await serve(peer="c")
    _, made = await call(b, "PUT", "/v1/session/create", {"TTL": "15s", "Behavior": "delete", "Name": "lease"})
    session = made["ID"]
    assert [s["Node"] for s in (await call(c, "GET", "/v1/session/node/b"))[1]] == ["b"]
    for verb in ("renew", "destroy"):
        status, found = await call(c, "PUT", f"/v1/session/{verb}/{session}")
        assert (status, found["hint"]) == (403, "a session belongs to the host that made it")
    assert (await call(b, "PUT", f"/v1/session/renew/{session}"))[0] == 200
    assert (await call(b, "PUT", f"/v1/session/destroy/{session}"))[0] == 200


async def test_leases_of_the_daemon_itself_are_shown_as_the_registry_hosts(api: TestClient, store: SqliteStore) -> None:
    lease = await store.grant(15.0, name="its own")
    _, [found] = await call(api, "GET", f"/v1/session/info/{lease}")
    assert (found["Node"], found["Name"]) == ("n1", "its own")
