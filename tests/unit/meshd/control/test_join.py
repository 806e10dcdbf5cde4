"""Joining a real authority over its real port: once, pinned, with the right token, as the right host."""

import random
import time
from pathlib import Path

import pytest

from meshd.config import Host, load
from meshd.control import join
from meshd.placed import ConfigError
from registry.ca import bundle, files
from registry.ca.entitlement import Entitlement
from tests.unit.meshd.conftest import Lines, Single, settings


def joining(single: Single, folder: Path, token: str, **more: str) -> Host:
    """A host `b` that wants to join `single`."""
    folder.mkdir(exist_ok=True)
    (folder / "token").write_text(token + "\n")
    layout = files.Layout(single.host.data)
    root = bundle.root_hash(files.read_certificates(layout.roots)[0])
    address = f"{single.host.bind.peer}:{single.host.ports.peer}"
    wanted = {
        "Node": "b",
        "Roles": "[]",
        "Registry.Kind": "mesh",
        "Registry.Address": address,
        "Join.Address": address,
        "Join.TokenFile": str(folder / "token"),
        "Join.RootHash": root,
    }
    return load(None, {}, settings(folder, **(wanted | more)))


async def ensure(host: Host) -> str:
    return (await join.ensure(host, Lines(), time.time, random.random)).identity.uri


def token_for(single: Single, node: str = "b") -> str:
    assert single.agent.authority is not None
    return single.agent.authority.join_token(node, Entitlement(services=("api",)), 60.0)


async def test_a_token_becomes_an_identity_and_a_second_start_needs_none(single: Single, tmp_path: Path) -> None:
    host = joining(single, tmp_path / "b", token_for(single))
    assert await ensure(host) == "spiffe://mesh.local/node/b"
    (tmp_path / "b" / "token").unlink()
    assert await ensure(host) == "spiffe://mesh.local/node/b"
    layout = files.Layout(host.data)
    assert layout.node.key.stat().st_mode & 0o777 == 0o600


async def test_a_used_token_is_refused(single: Single, tmp_path: Path) -> None:
    token = token_for(single)
    await ensure(joining(single, tmp_path / "b", token))
    with pytest.raises(ConfigError, match="used before"):
        await ensure(joining(single, tmp_path / "c", token))


async def test_a_wrong_root_hash_sends_nothing(single: Single, tmp_path: Path) -> None:
    token = token_for(single)
    with pytest.raises(ConfigError, match="nothing was sent"):
        await ensure(joining(single, tmp_path / "b", token, **{"Join.RootHash": "0" * 64}))
    assert await ensure(joining(single, tmp_path / "c", token))  # it is not used up


async def test_a_token_for_another_host_is_explained(single: Single, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is b, but the certificate"):
        await ensure(joining(single, tmp_path / "b", token_for(single, "z")))


async def test_no_token_file(single: Single, tmp_path: Path) -> None:
    host = joining(single, tmp_path / "b", "x")
    (tmp_path / "b" / "token").unlink()
    with pytest.raises(ConfigError, match=r"Join\.TokenFile"):
        await ensure(host)


async def test_garbage_on_disk_is_no_reason_to_join_again(single: Single, tmp_path: Path) -> None:
    host = joining(single, tmp_path / "b", token_for(single))
    layout = files.Layout(host.data)
    layout.identity.mkdir(parents=True)
    files.write(layout.node.certificate, b"garbage")
    with pytest.raises(ConfigError, match="identity cannot be used"):
        await ensure(host)
