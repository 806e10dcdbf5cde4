import os
import socket
from pathlib import Path

import msgspec

from meshd.config import Bind, Host, Ports
from meshd.control.registrations import Local, Saved
from meshd.doctor import sockets
from meshd.doctor.sockets import App
from meshd.ports import Lock
from tests.unit.registry.made import instance


def test_a_free_port_one_of_ours_and_a_stranger_s() -> None:
    def verdict(held_by: str) -> str:
        return sockets.judge_port("Ports.Api", "127.0.0.1", 15500, held_by, frozenset({7})).verdict

    assert [verdict(one) for one in ("", "meshd (pid 7)", "nginx (pid 8)", "?")] == ["ok", "ok", "fail", "fail"]


def test_a_stranger_on_a_port_is_named(tmp_path: Path) -> None:
    with socket.socket() as stranger:
        stranger.bind(("127.0.0.1", 0))
        stranger.listen()
        port = stranger.getsockname()[1]
        host = Host(node="a", run_dir=str(tmp_path), data_dir=str(tmp_path), ports=Ports(api=port),
                    bind=Bind(inbound="127.0.0.1"))  # fmt: skip
        found = {check.name: check for check in sockets.examine(host)}
        assert found["port Ports.Api"].verdict == "fail"
        assert f"(pid {os.getpid()})" in found["port Ports.Api"].seen
        ours = Lock(tmp_path)  # now it is our own meshd that listens
        assert {check.name: check for check in sockets.examine(host)}["port Ports.Api"].verdict == "ok"
        ours.close()


def test_an_application_that_others_reach_past_the_mesh() -> None:
    (check,) = sockets.judge_apps([App("web/a/web-1", 8080)], lambda port: ["127.0.0.1", "0.0.0.0"])
    assert check.verdict == "warn"
    assert "0.0.0.0" in check.seen
    (check,) = sockets.judge_apps([App("web/a/web-1", 8080)], lambda port: ["127.0.0.5"])
    assert check.verdict == "ok"


def test_applications_of_the_disk_and_of_the_configuration(tmp_path: Path) -> None:
    saved = Saved(local=(Local(instance=instance(), app="127.0.0.1"),))
    (tmp_path / "registrations.json").write_bytes(msgspec.json.encode(saved))
    host = Host(node="a", data_dir=str(tmp_path), services=({"Name": "db", "Port": 5432},))
    assert sockets.apps(host) == (App("db", 5432), App("web/a/web-1", 8080))
    (tmp_path / "registrations.json").write_text("{")
    assert sockets.apps(host) == (App("db", 5432),)


def test_proxies_of_this_run_dir_only(tmp_path: Path) -> None:
    for pid, run_dir in ((7, "/run/meshd"), (8, "/run/other")):
        (tmp_path / str(pid)).mkdir()
        words = ["/usr/bin/meshd-proxy", "run", "--run-dir", run_dir, ""]
        (tmp_path / str(pid) / "cmdline").write_bytes("\0".join(words).encode())
    assert list(sockets.proxies(Host(node="a", run_dir="/run/meshd"), tmp_path)) == [7]
