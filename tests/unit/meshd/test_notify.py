"""sd_notify: one datagram where somebody listens, nothing otherwise."""

import socket
from pathlib import Path

from meshd.notify import notify


def test_ready_is_one_datagram(short_tmp: Path) -> None:
    path = str(short_tmp / "n")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        notify({"NOTIFY_SOCKET": path}, "READY=1")
        assert sock.recv(64) == b"READY=1"


def test_abstract_names(short_tmp: Path) -> None:
    name = f"meshd-test-{short_tmp.name}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name)
        notify({"NOTIFY_SOCKET": "@" + name}, "STOPPING=1")
        assert sock.recv(64) == b"STOPPING=1"


def test_nobody_asked_or_nobody_listens(short_tmp: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(short_tmp / "n"))
        notify({}, "READY=1")
        notify({"NOTIFY_SOCKET": str(short_tmp / "gone")}, "READY=1")
        sock.setblocking(False)
        try:
            raise AssertionError(sock.recv(64))
        except BlockingIOError:
            return
