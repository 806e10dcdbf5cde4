"""What handlers share. Who calls is proven over real sockets in tests/security/test_local_api.py."""

from dataclasses import replace

import pytest
from aiohttp.test_utils import TestClient, make_mocked_request

from registry.api.access import Access
from registry.api.context import Deps, key_of, token_of
from registry.backends.consul import ConsulStore
from registry.backends.sqlite import SqliteStore
from tests.fakes.served import Serve


@pytest.mark.parametrize(
    ("headers", "token"),
    [
        ({}, ""),
        ({"X-Consul-Token": "a"}, "a"),
        ({"Authorization": "Bearer b"}, "b"),
        ({"Authorization": "bearer  b"}, "b"),
        ({"Authorization": "Basic b"}, ""),
        ({"X-Consul-Token": "a", "Authorization": "Bearer b"}, "a"),
    ],
)
def test_where_a_token_is_read(headers: dict[str, str], token: str) -> None:
    assert token_of(make_mocked_request("GET", "/?token=url", headers=headers)) == token


def test_a_key_is_what_the_path_says() -> None:
    assert key_of(make_mocked_request("GET", "/", match_info={"key": "a/b/"})) == "a/b/"


async def test_an_invalid_token_is_no_hindrance_in_dev_mode(api: TestClient) -> None:
    async with api.put("/v1/kv/a", data=b"1", headers={"X-Consul-Token": "whatever"}) as answer:
        assert answer.status == 200


@pytest.mark.parametrize("dev_mode", [False, True])
async def test_a_write_goes_to_a_remote_registry_under_the_callers_own_token(
    dev_mode: bool, serve: Serve, deps: Deps, store: SqliteStore
) -> None:
    """A joined host: its own connection may not write policy, the operator behind it may."""
    asked: list[str] = []

    def verify(token: str) -> str | None:
        asked.append(token)
        return "ana" if token == "good" else None

    registry = await serve(access=Access(), verify_token=verify)
    remote = ConsulStore([str(registry.make_url("/")).rstrip("/")])
    access = Access(admin_uids=frozenset(), open=dev_mode)
    host = await serve(store=remote, store_as=remote.acting_as, access=access, verify_token=verify)
    path = "/v1/kv/mesh/v1/config/mesh"
    try:
        async with host.put(path, data=b"{}", headers={"X-Consul-Token": "good"}) as answer:
            assert answer.status == 200, await answer.text()
        assert asked == ["good", "good"]
        assert (await store.get("mesh/v1/config/mesh")) is not None
    finally:
        await remote.close()


async def test_what_the_remote_registry_refuses_is_refused_here(serve: Serve, deps: Deps) -> None:
    registry = await serve(access=Access(admin_uids=frozenset()))
    remote = ConsulStore([str(registry.make_url("/")).rstrip("/")])
    host = await serve(store=remote)  # open here, not there
    try:
        async with host.put("/v1/kv/mesh/v1/config/mesh", data=b"{}") as answer:
            assert answer.status == 403
        async with host.get("/v1/catalog/nodes") as answer:
            assert answer.status == 200
        assert replace(deps, store=remote).store is remote
    finally:
        await remote.close()
