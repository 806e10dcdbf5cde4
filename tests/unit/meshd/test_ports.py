"""Taken means refused, with the holder's name."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from meshd.placed import ConfigError
from meshd.ports import Lock, addresses, check, holder, listen


def taken(reuse_port: bool = False) -> tuple[socket.socket, int]:
    sock = socket.socket()
    if reuse_port:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock, sock.getsockname()[1]


@pytest.mark.parametrize("reuse_port", [False, True])
def test_a_taken_port_names_its_holder_even_when_it_would_share(reuse_port: bool) -> None:
    sock, port = taken(reuse_port)
    with (
        sock,
        pytest.raises(ConfigError, match=rf"Ports\.Inbound: 127\.0\.0\.1:{port} is taken by .*pid {os.getpid()}"),
    ):
        check("Ports.Inbound", "127.0.0.1", port)


def test_a_free_port_stays_free_after_the_check() -> None:
    sock, port = taken()
    sock.close()
    check("Ports.Inbound", "127.0.0.1", port)
    listening = listen("Ports.Api", "127.0.0.1", port)
    assert listening.getsockname()[1] == port
    listening.close()


def test_an_address_of_another_host_is_explained() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.7"):
        check("Bind.Inbound", "192.0.2.7", 1)


def test_who_holds_the_port_at_another_address_is_not_in_the_way() -> None:
    sock, port = taken()
    with sock:
        assert f"pid {os.getpid()}" in holder("127.0.0.1", port)
        assert f"pid {os.getpid()}" in holder("0.0.0.0", port)
        assert holder("127.0.0.9", port) == ""


def test_nobody_holds_a_port_that_is_free() -> None:
    sock, port = taken()
    sock.close()
    assert holder("127.0.0.1", port) == ""


def test_one_meshd_per_run_dir(tmp_path: Path) -> None:
    lock = Lock(tmp_path / "run")
    with pytest.raises(ConfigError, match=rf"held by another meshd \(pid {os.getpid()}\)"):
        Lock(tmp_path / "run")
    lock.close()
    Lock(tmp_path / "run").close()


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    program = (
        f"import meshd.ports as p, pathlib; x = p.Lock(pathlib.Path({str(tmp_path)!r})); print(1, flush=True); input()"
    )
    child = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, stdin=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stdin is not None
    assert child.stdout.readline() == b"1\n"
    with pytest.raises(ConfigError, match=str(child.pid)):
        Lock(tmp_path)
    child.kill()
    child.wait()
    child.stdout.close()
    child.stdin.close()
    Lock(tmp_path).close()


def test_a_run_dir_that_cannot_be_made_is_explained(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="RunDir"):
        Lock(tmp_path / "file" / "run")


def test_where_a_port_is_listened_on() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.9", 0))
        one.listen()
        assert addresses(one.getsockname()[1]) == {"127.0.0.9"}
    assert addresses(1) == frozenset()
