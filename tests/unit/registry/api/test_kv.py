"""KV over HTTP: shapes, statuses and indexes as Consul 1.8."""

import asyncio
import base64
from typing import Any

from aiohttp.test_utils import TestClient

from registry.api.context import Deps
from registry.backends.sqlite import SqliteStore
from tests.fakes.served import Serve


async def index_of(api: TestClient, path: str) -> int:
    async with api.get(path) as answer:
        return int(answer.headers["X-Consul-Index"])


async def watched(store: SqliteStore, count: int) -> None:
    """Until this many reads wait at the store: requests arrive and end without an event to wait for."""
    async with asyncio.timeout(5):
        while store.watching != count:  # noqa: ASYNC110 - there is no event
            await asyncio.sleep(0.001)  # sleep: polls


async def put(api: TestClient, path: str, data: bytes = b"v") -> Any:
    async with api.put(f"/v1/kv/{path}", data=data) as answer:
        assert answer.status == 200, await answer.text()
        return await answer.json()


async def test_a_key_is_shown_as_consul_shows_it(api: TestClient) -> None:
    assert await put(api, "a/b?flags=42", b"x") is True
    async with api.get("/v1/kv/a/b") as answer:
        [pair] = await answer.json()
        index = int(answer.headers["X-Consul-Index"])
    assert list(pair) == ["LockIndex", "Key", "Flags", "Value", "CreateIndex", "ModifyIndex"]
    assert (pair["Key"], pair["Flags"], base64.b64decode(pair["Value"])) == ("a/b", 42, b"x")
    assert pair["CreateIndex"] == pair["ModifyIndex"] == index


async def test_a_missing_key_is_404_with_an_index(api: TestClient) -> None:
    for path in ("/v1/kv/none", "/v1/kv/none?recurse", "/v1/kv/none?keys", "/v1/kv/none?raw"):
        async with api.get(path) as answer:
            assert answer.status == 404
            assert int(answer.headers["X-Consul-Index"]) >= 1
            assert await answer.read() == b""


async def test_an_empty_value_is_null(api: TestClient) -> None:
    await put(api, "empty", b"")
    async with api.get("/v1/kv/empty") as answer:
        assert (await answer.json())[0]["Value"] is None


async def test_raw_is_the_value_that_browsers_must_not_run(api: TestClient) -> None:
    await put(api, "page", b"<script>")
    async with api.get("/v1/kv/page?raw") as answer:
        assert await answer.read() == b"<script>"
        assert answer.content_type == "text/plain"
        assert answer.headers["Content-Security-Policy"] == "sandbox"
        assert answer.headers["X-Content-Type-Options"] == "nosniff"


async def test_prefixes_are_strings_as_in_consul(api: TestClient) -> None:
    for key in ("p/bfoo", "p/b/1", "p/b/2", "q"):
        await put(api, key)
    async with api.get("/v1/kv/p/b?recurse") as answer:
        assert [pair["Key"] for pair in await answer.json()] == ["p/b/1", "p/b/2", "p/bfoo"]
    async with api.get("/v1/kv/p/?keys&separator=/") as answer:
        assert await answer.json() == ["p/b/", "p/bfoo"]
    async with api.get("/v1/kv/?keys&separator=/") as answer:
        assert {"p/", "q"} <= set(await answer.json())


async def test_cas(api: TestClient) -> None:
    assert await put(api, "c?cas=0", b"1") is True
    assert await put(api, "c?cas=0", b"2") is False
    index = await index_of(api, "/v1/kv/c")
    assert await put(api, f"c?cas={index + 1}", b"2") is False
    assert await put(api, f"c?cas={index}", b"2") is True
    async with api.delete(f"/v1/kv/c?cas={index}") as answer:
        assert await answer.json() is False
    async with api.delete(f"/v1/kv/c?cas={await index_of(api, '/v1/kv/c')}") as answer:
        assert await answer.json() is True
    async with api.delete("/v1/kv/c?cas=5") as answer:
        assert await answer.json() is True  # absent already


async def test_bad_numbers_are_named(api: TestClient) -> None:
    for query, field in (("cas=x", "cas"), ("flags=-1", "flags"), ("flags=18446744073709551616", "flags")):
        async with api.put(f"/v1/kv/c?{query}", data=b"") as answer:
            assert (answer.status, (await answer.json())["field"]) == (400, field)


async def test_flags_above_2_63_come_back(api: TestClient) -> None:
    mark = 0xE0F69A2BAA414DE0  # what `consul lock -n` marks its keys with
    await put(api, f"f?flags={mark}")
    async with api.get("/v1/kv/f") as answer:
        assert (await answer.json())[0]["Flags"] == mark


async def test_a_tree_is_deleted(api: TestClient, store: SqliteStore) -> None:
    for n in range(70):
        await put(api, f"t/{n}")
    await put(api, "tt")
    async with api.delete("/v1/kv/t/?recurse") as answer:
        assert await answer.json() is True
    assert [e.key for e in (await store.list("t")).entries] == ["tt"]
    async with api.delete("/v1/kv/none/?recurse") as answer:
        assert await answer.json() is True


async def test_a_key_name_is_needed_to_write_and_to_read(api: TestClient) -> None:
    for method in ("GET", "PUT", "DELETE"):
        async with api.request(method, "/v1/kv/") as answer:
            assert answer.status == 400
            assert "Missing key name" in (await answer.json())["error"]


async def test_a_value_of_512_kib_is_taken_and_one_byte_more_is_not(api: TestClient) -> None:
    assert await put(api, "big", b"a" * 524288) is True
    async with api.put("/v1/kv/big", data=b"a" * 524289) as answer:
        assert answer.status == 413

    async def chunks() -> Any:
        for _ in range(9):
            yield b"a" * 65536

    async with api.put("/v1/kv/big", data=chunks()) as answer:  # no Content-Length to judge by
        assert answer.status == 413


async def test_locks(api: TestClient) -> None:
    ids = []
    for _ in range(2):
        async with api.put("/v1/session/create", data=b'{"TTL": "10s"}') as answer:
            ids.append((await answer.json())["ID"])
    one, two = ids
    assert await put(api, f"lock?acquire={one}", b"1") is True
    assert await put(api, f"lock?acquire={two}", b"2") is False
    assert await put(api, f"lock?acquire={one}", b"3") is True
    async with api.get("/v1/kv/lock") as answer:
        [pair] = await answer.json()
    assert (pair["Session"], pair["LockIndex"], base64.b64decode(pair["Value"])) == (one, 1, b"3")
    assert await put(api, f"lock?release={two}") is False
    assert await put(api, f"lock?release={one}") is True
    async with api.put(f"/v1/kv/lock?acquire={one}&cas=0", data=b"") as answer:
        assert answer.status == 400
    async with api.put("/v1/kv/lock?acquire=adf4238a-882b-9ddc-4a9d-5b6758e4159e", data=b"") as answer:
        assert answer.status == 500  # as Consul
        assert "invalid session" in (await answer.json())["error"]


async def test_a_blocking_read_answers_with_the_change(api: TestClient) -> None:
    await put(api, "w/a", b"1")
    index = await index_of(api, "/v1/kv/w/a")

    async def wait() -> tuple[int, Any]:
        async with api.get(f"/v1/kv/w/a?index={index}&wait=30s") as answer:
            return int(answer.headers["X-Consul-Index"]), await answer.json()

    waiting = asyncio.gather(wait())
    await put(api, "w/other", b"x")
    await put(api, "w/a", b"2")
    [(after, [pair])] = await waiting
    assert base64.b64decode(pair["Value"]) == b"2"
    assert after > index


async def test_a_blocking_read_sees_a_deletion_below_its_prefix(api: TestClient) -> None:
    await put(api, "d/a")
    await put(api, "d/b")
    index = await index_of(api, "/v1/kv/d/?recurse")
    async with api.delete("/v1/kv/d/a"):
        pass
    async with api.get(f"/v1/kv/d/?recurse&index={index}&wait=30s") as answer:
        assert [pair["Key"] for pair in await answer.json()] == ["d/b"]


async def test_a_blocking_read_ends_with_the_old_index_when_its_time_is_over(api: TestClient) -> None:
    await put(api, "w/a")
    index = await index_of(api, "/v1/kv/w/a")
    async with api.get(f"/v1/kv/w/a?index={index}&wait=20ms") as answer:
        assert int(answer.headers["X-Consul-Index"]) == index


async def test_an_index_from_another_store_is_answered_at_once(api: TestClient) -> None:
    await put(api, "w/a")
    async with asyncio.timeout(5), api.get("/v1/kv/w/a?index=999999&wait=60s") as answer:
        assert int(answer.headers["X-Consul-Index"]) < 999999


async def test_a_client_that_goes_away_leaves_nothing_behind(api: TestClient, store: SqliteStore) -> None:
    await put(api, "w/a")
    index = await index_of(api, "/v1/kv/w/a")
    with_timeout = api.get(f"/v1/kv/w/a?index={index}&wait=60s")
    try:
        async with asyncio.timeout(0.2):
            await with_timeout
    except TimeoutError:
        pass
    await watched(store, 0)


async def test_shutdown_lets_waiting_reads_go(serve: Serve, deps: Deps, store: SqliteStore) -> None:
    api = await serve()
    await put(api, "w/a")
    index = await index_of(api, "/v1/kv/w/a")

    async def wait() -> int:
        async with api.get(f"/v1/kv/w/a?index={index}&wait=600s") as answer:
            return answer.status

    waiting = asyncio.gather(wait())
    await watched(store, 1)
    assert api.server is not None
    async with asyncio.timeout(5):
        await api.server.close()
    assert await waiting == [200]
