"""Listeners: who may connect where, and what tells one store from another."""

import io
import socket
import ssl
import time
from pathlib import Path

import aiohttp
import pytest

from meshd import serve
from meshd.config import Host, Register
from meshd.placed import ConfigError
from meshd.serve import access, bind, keep_published, publish_authority
from meshd.telemetry.log import Log
from registry import keys
from registry.ca import files, names, tls
from registry.ca.init import First, init
from registry.errors import Unavailable
from tests.fakes.store import MemoryStore
from tests.unit.meshd.conftest import Single


async def test_the_peer_port_speaks_tls_with_the_role_certificate(single: Single) -> None:
    host = single.host
    layout = files.Layout(host.data)
    url = f"https://{host.bind.peer}:{host.ports.peer}/v1/kv/{keys.NODES}?recurse"
    peer = names.peer_name("mesh.local")
    async with single.session.get(url, ssl=tls.client_context(layout), server_hostname=peer) as answer:
        assert answer.status == 200
    bare = tls.pinned_context(files.read_certificates(layout.roots), "mesh.local")
    async with single.session.get(url, ssl=bare, server_hostname=peer) as answer:
        assert answer.status == 403
    with pytest.raises(aiohttp.ClientConnectorError):
        await single.session.get(url, ssl=ssl.create_default_context(), server_hostname=peer)


async def test_mesh_routes_are_not_served_to_other_hosts(single: Single) -> None:
    host = single.host
    url = f"https://{host.bind.peer}:{host.ports.peer}/v1/mesh/tokens"
    context = tls.client_context(files.Layout(host.data))
    async with single.session.post(url, ssl=context, server_hostname=names.peer_name("mesh.local"), json={}) as answer:
        assert answer.status == 404


async def test_everyone_may_connect_to_the_unix_socket(single: Single) -> None:
    path = single.host.run / "api.sock"
    assert path.stat().st_mode & 0o777 == 0o666
    async with (
        aiohttp.ClientSession(connector=aiohttp.UnixConnector(str(path))) as session,
        session.get("http://localhost/v1/agent/self") as answer,
    ):
        assert answer.status == 200


def test_rights_follow_the_configuration() -> None:
    rules = access(Host(register=(Register(uids=(1000,), services=("web",)),)))
    assert not rules.open
    assert rules.register[0].uids == {1000}
    assert access(Host(development=True)).open


def test_a_taken_api_port_is_found_before_anything_is_started(short_tmp: Path) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        host = Host(run_dir=str(short_tmp))
        taken = type(host.ports)(api=sock.getsockname()[1])
        with pytest.raises(ConfigError, match=r"Ports\.Api"):
            bind(Host(run_dir=str(short_tmp), ports=taken))


async def test_another_meshs_store_is_noticed(tmp_path: Path) -> None:
    init(tmp_path, First("a"), time.time())
    layout = files.Layout(tmp_path)
    store = MemoryStore()
    assert await publish_authority(store, layout) == ""
    assert await publish_authority(store, layout) == ""
    await store.put(keys.STORE_ID, b"another")
    assert "another mesh" in await publish_authority(store, layout)


class Away(MemoryStore):
    """Refuses its first writes."""

    refusals = 2

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        if self.refusals:
            self.refusals -= 1
            raise Unavailable("nobody answers")
        return await super().put(key, value, expect=expect, lease=lease, flags=flags)


async def test_an_authority_is_published_when_its_store_comes_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "PUBLISH_RETRY", 0.01)
    init(tmp_path, First("a"), time.time())
    store, log = Away(), Log(io.StringIO(), time.time)
    await keep_published(store, files.Layout(tmp_path), log)
    assert await store.get(keys.STORE_ID) is not None
