import asyncio
import json
from pathlib import Path

import pytest

from meshd.cli.backup import Progress
from registry import keys
from registry.backends.sqlite import SqliteStore
from tests.fakes.clock import Clock
from tests.unit.meshd.cli.conftest import Run
from tests.unit.meshd.cli.test_stores import configuration

STORED = {keys.CONFIG + "mesh": b"{}", keys.POLICY + "service-router/web": b"Routes: []", keys.STORE_ID: b"one"}


def fill(directory: Path, stored: dict[str, bytes]) -> Path:
    """A configuration whose embedded registry holds these keys."""

    async def put() -> None:
        store = SqliteStore.open(directory / "data" / "registry.sqlite")
        for key, value in stored.items():
            await store.put(key, value)
        await store.close()

    (directory / "data").mkdir(parents=True)
    asyncio.run(put())
    return configuration(directory)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return fill(tmp_path / "old", STORED)


@pytest.fixture
def saved(meshctl: Run, old: Path, tmp_path: Path) -> Path:
    file = tmp_path / "mesh.backup"
    done = meshctl("registry", "backup", str(file), "--config", str(old))
    assert done.returncode == 0, done.stderr
    assert "3 keys" in done.stdout
    return file


def test_only_its_owner_reads_the_file(saved: Path) -> None:
    assert saved.stat().st_mode & 0o777 == 0o600


def test_a_file_that_exists_is_never_overwritten(meshctl: Run, saved: Path, old: Path) -> None:
    before = saved.read_bytes()
    done = meshctl("registry", "backup", str(saved), "--config", str(old))
    assert done.returncode == 2
    assert saved.read_bytes() == before


def test_an_empty_registry_is_filled(meshctl: Run, saved: Path, tmp_path: Path) -> None:
    new = fill(tmp_path / "new", {})
    done = meshctl("registry", "restore", str(saved), "--config", str(new), "--dry-run")
    assert [line.split()[1] for line in done.stdout.splitlines()[1:4]] == ["new"] * 3
    done = meshctl("registry", "restore", str(saved), "--config", str(new), "-o", "json")
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["keys"][-1] == {"key": keys.STORE_ID, "verdict": "new", "why": ""}
    again = meshctl("registry", "restore", str(saved), "--config", str(new))
    assert "restored 0 new and 0 differing keys, 3 are the same" in again.stdout


def test_differing_values_need_a_word(meshctl: Run, saved: Path, tmp_path: Path) -> None:
    new = fill(tmp_path / "new", {keys.CONFIG + "mesh": b"other"})
    done = meshctl("registry", "restore", str(saved), "--config", str(new))
    assert done.returncode == 1
    assert "config/mesh" in done.stderr
    assert "--overwrite" in done.stderr
    assert meshctl("registry", "restore", str(saved), "--config", str(new), "--overwrite").returncode == 0


def test_a_tampered_file_is_refused(meshctl: Run, saved: Path, old: Path) -> None:
    saved.write_bytes(saved.read_bytes().replace(b"service-router/web", b"service-router/wep"))
    done = meshctl("registry", "restore", str(saved), "--config", str(old))
    assert done.returncode == 1
    assert "checksum" in done.stderr


def test_no_file_is_left_when_the_disk_refuses(meshctl: Run, old: Path) -> None:
    done = meshctl("registry", "backup", "/proc/mesh.backup", "--config", str(old))
    assert done.returncode == 2
    assert "/proc/mesh.backup" in done.stderr


def test_nobody_answers_is_exit_75(meshctl: Run, tmp_path: Path) -> None:
    done = meshctl("registry", "backup", str(tmp_path / "b"), target=str(tmp_path / "no.sock"))
    assert done.returncode == 75
    assert not (tmp_path / "b").exists()


def test_progress_is_told_when_it_takes_long(capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    tell = Progress("restored", clock.time)
    tell(1, 9)
    clock.now += 3
    tell(2, 9)
    tell(3, 9)
    assert capsys.readouterr().err == "restored: 2 of 9 keys\n"
