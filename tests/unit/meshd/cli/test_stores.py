from pathlib import Path

import pytest

from meshd.cli import stores
from meshd.cli.target import Target
from meshd.ports import Lock
from registry.errors import Unavailable


def configuration(directory: Path, more: str = "") -> Path:
    file = directory / "meshd.yaml"
    text = f"Node: a\nRoles: [registry, ca]\nDataDir: {directory}/data\nRunDir: {directory}/run\n{more}"
    file.write_text(text)
    return file


def nobody() -> Target:
    raise AssertionError("no meshd is asked")


async def test_the_embedded_registry_is_opened_as_configured(tmp_path: Path) -> None:
    async with stores.opened(nobody, configuration(tmp_path)) as store:
        await store.put("mesh/v1/config/mesh", b"{}")
    async with stores.opened(nobody, configuration(tmp_path)) as store:
        assert await store.get("mesh/v1/config/mesh") is not None


async def test_a_registry_that_a_running_meshd_serves_is_not_opened_beside_it(tmp_path: Path) -> None:
    running = Lock(tmp_path / "run")
    with pytest.raises(stores.BadConfig, match="held by another meshd"):
        async with stores.opened(nobody, configuration(tmp_path)):
            pass
    running.close()


def test_a_bad_configuration_is_exit_78(tmp_path: Path) -> None:
    with pytest.raises(stores.BadConfig, match="unknown key Prot") as caught:
        stores.load(configuration(tmp_path, "Prot: {}\n"))
    assert caught.value.exit_code == 78


async def test_without_a_meshd_it_says_whom_it_asked(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match=r"api\.sock"):
        async with stores.opened(lambda: Target(str(tmp_path / "api.sock")), None) as store:
            await store.list("mesh/v1/")


async def test_a_socket_may_be_named_from_the_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`unix://.demo/a/run/api.sock` would be the socket /a/run/api.sock of a host `.demo`."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(Unavailable, match=str(tmp_path / "run/api.sock")):
        async with stores.opened(lambda: Target("run/api.sock"), None) as store:
            await store.list("mesh/v1/")
