"""`meshd` as a process: exit codes, what it says, and that its end is not its proxy's."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from registry.ca.init import First, init
from tests.fakes import proxy as fakes
from tests.unit.meshd.conftest import settings

MESHD = str(Path(sys.executable).with_name("meshd"))


class Started:
    """A `meshd run` and its log."""

    def __init__(self, folder: Path, flags: list[str], **environ: str) -> None:
        sets = [part for flag in flags for part in ("--set", flag)]
        self.log = folder / "log"
        program = {"MESHD_PROXY_BIN": str(fakes.script(folder))}
        with self.log.open("ab") as out:
            self.process = subprocess.Popen(
                [MESHD, "run", *sets],
                stdout=out,
                stderr=out,
                stdin=subprocess.DEVNULL,
                env=os.environ | program | environ,
            )

    def said(self, text: str, seconds: float = 20.0) -> None:
        end = time.monotonic() + seconds
        while text not in self.log.read_text():
            assert time.monotonic() < end, self.log.read_text()
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.02)  # sleep: the pace of a wait with a deadline


@pytest.fixture
def flags(short_tmp: Path) -> list[str]:
    made = settings(short_tmp)
    init(short_tmp / "data", First("a"), time.time())
    return made


@pytest.fixture
def started(short_tmp: Path, flags: list[str]) -> Iterator[Started]:
    running = Started(short_tmp, flags)
    yield running
    running.process.kill()
    running.process.wait()
    for pid in proxies(short_tmp):
        os.kill(pid, signal.SIGKILL)


def proxies(folder: Path) -> list[int]:
    """Fake proxies of this host that run."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                arguments = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if "tests.fakes.proxy" in arguments and str(folder / "run") in arguments:
                found.append(int(entry.name))
    return found


def refused(*arguments: str, **environ: str) -> str:
    """What a start that must end with 78 says."""
    done = subprocess.run([MESHD, *arguments], capture_output=True, text=True, env=os.environ | environ, timeout=30)
    assert done.returncode == 78, done.stderr
    return done.stderr


def test_bad_configuration_is_78_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text("Node: a\nPort: {}\n")
    assert f"{path}:2: unknown key Port (did you mean Ports?)" in refused("run", "--config", str(path))


def test_config_show_names_the_origin_of_each_setting(tmp_path: Path) -> None:
    path = tmp_path / "host.yaml"
    path.write_text("Node: a\nRoles: [registry]\n")
    command = [MESHD, "config", "show", "--origin", "--config", str(path), "--set", "Ports.Api=1"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    lines = {line.split()[0]: line.split(maxsplit=2)[2] for line in done.stdout.splitlines()}
    assert lines["Node"] == f"{path}:1"
    assert lines["Ports.Api"] == "flag --set Ports.Api"
    assert lines["LeaseTTL"] == "default"
    assert "did you mean" in refused("config", "show", "--set", "Noda=x")


def test_sighup_reloads_and_ends_nothing(started: Started) -> None:
    started.said('"event": "ready"')
    started.process.send_signal(signal.SIGHUP)
    started.said('"event": "configuration reloaded"')
    assert started.process.poll() is None


def test_a_token_of_consul_that_cannot_be_read_is_78_and_named(short_tmp: Path) -> None:
    flags = [flag for flag in settings(short_tmp) if not flag.startswith("Roles")]
    init(short_tmp / "data", First("a"), time.time())
    consul = ["Roles=[ca]", "Registry.Kind=consul", "Registry.Addresses=['https://127.0.0.1:1']", "LeaseTTL=15s"]
    flags += [*consul, f"Registry.TokenFile={short_tmp}/none"]
    said = refused("run", *[part for flag in flags for part in ("--set", flag)])
    assert f"Registry: TokenFile {short_tmp}/none: cannot be read" in said


def test_files_of_the_registrys_settings_that_are_missing_are_78(short_tmp: Path) -> None:
    flags = [flag for flag in settings(short_tmp) if not flag.startswith("Roles")]
    init(short_tmp / "data", First("a"), time.time())
    etcd = ["Roles=[ca]", "Registry.Kind=etcd", "Registry.Address=127.0.0.1:1", "Registry.TokenFile=/nonexistent"]
    sets = [part for flag in [*flags, *etcd] for part in ("--set", flag)]
    assert "meshd: Registry: a file of the registry's settings cannot be read" in refused("run", *sets)


def test_grpc_is_imported_only_when_it_is_configured() -> None:
    """It costs 10 MB and 100 ms."""
    code = "import sys, meshd.main; sys.exit('grpc' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=30, check=False).returncode == 0


def test_no_identity_and_nothing_to_join_with_is_78(short_tmp: Path) -> None:
    sets = [part for flag in settings(short_tmp) for part in ("--set", flag)]
    assert "no identity yet" in refused("run", *sets)


def test_another_hosts_identity_is_78(short_tmp: Path, flags: list[str]) -> None:
    sets = [part for flag in [*flags, "Node=z"] for part in ("--set", flag)]
    assert "certificate" in refused("run", *sets)


def test_a_second_meshd_on_the_same_directories_is_78(short_tmp: Path, flags: list[str], started: Started) -> None:
    started.said('"event": "ready"')
    sets = [part for flag in flags for part in ("--set", flag)]
    assert f"pid {started.process.pid}" in refused("run", *sets)


def test_a_taken_port_is_78_and_names_the_holder(short_tmp: Path, flags: list[str], started: Started) -> None:
    started.said('"event": "ready"')
    sets = [part for flag in [*flags, f"RunDir={short_tmp / 'other'}"] for part in ("--set", flag)]
    assert f"meshd (pid {started.process.pid})" in refused("run", *sets)


def test_sigterm_drains_the_proxy_and_ends_with_0(short_tmp: Path, started: Started) -> None:
    started.said('"event": "ready"')
    assert proxies(short_tmp)
    started.process.terminate()
    assert started.process.wait(15) == 0
    assert proxies(short_tmp) == []
    assert not (short_tmp / "run" / "lease").exists()


def test_sigterm_right_after_listening_is_not_lost(started: Started) -> None:
    started.said('"event": "listening"')
    started.process.terminate()
    assert started.process.wait(15) == 0


def test_the_proxy_outlives_a_killed_meshd_and_is_taken_over(
    short_tmp: Path, flags: list[str], started: Started
) -> None:
    started.said('"event": "ready"')
    before = proxies(short_tmp)
    started.process.kill()
    started.process.wait()
    assert proxies(short_tmp) == before
    following = Started(short_tmp, flags)
    try:
        end = time.monotonic() + 20
        while following.log.read_text().count('"event": "ready"') < 2:
            assert time.monotonic() < end, following.log.read_text()
            time.sleep(0.02)  # sleep: the pace of a wait with a deadline
        assert proxies(short_tmp) == before
    finally:
        following.process.terminate()
        assert following.process.wait(15) == 0


def test_a_proxy_that_cannot_be_started_ends_meshd(short_tmp: Path, flags: list[str]) -> None:
    sets = [part for flag in flags for part in ("--set", flag)]
    assert "/nonexistent cannot be executed" in refused("run", *sets, MESHD_PROXY_BIN="/nonexistent")
