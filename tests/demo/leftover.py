"""Processes of an earlier run (known by pid and start time, so never a stranger's), and who holds a port."""

import os
import signal
import socket
import time
from contextlib import suppress
from pathlib import Path

from tests.mesh.cluster import processes


def start_time(pid: int) -> str:
    """Clock ticks since boot at which the process started; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[19]
    except OSError:
        return ""


class Pidfile:
    """One line per process: pid, start time, name."""

    def __init__(self, path: Path):
        self.path = path

    def add(self, pid: int, name: str) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a") as file:
            file.write(f"{pid} {start_time(pid)} {name}\n")

    def end_all(self) -> list[str]:
        """End what still runs of an earlier run; the names."""
        ended = []
        for line in self.path.read_text().splitlines() if self.path.exists() else ():
            pid, started, name = line.split(" ", 2)
            if started and start_time(int(pid)) == started:
                end(int(pid))
                ended.append(name)
        self.path.unlink(missing_ok=True)
        return ended


def end(pid: int, seconds: float = 5.0) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGTERM)
        limit = time.monotonic() + seconds
        while start_time(pid) and time.monotonic() < limit:
            with suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.05)
        os.kill(pid, signal.SIGKILL)


def end_proxies(state: Path) -> None:
    """Proxies outlive their meshd by design: those whose arguments name our state directory are ours."""
    for pid, args in list(processes()):
        if "meshd-proxy" in args[0] and any(str(state) in arg for arg in args):
            end(pid)


def taken(addresses: list[str], ports: list[int]) -> list[str]:
    """`127.0.0.1:15500 is held by nginx (pid 42)` for each port that cannot be bound."""
    found = []
    for address in addresses:
        for port in ports:
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                try:
                    probe.bind((address, port))
                except OSError:
                    found.append(f"{address}:{port} is held by {holder(port)}")
    return found


def holder(port: int) -> str:
    """Name and pid of who listens on the port, from /proc."""
    inodes = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        parts = line.split()
        if parts[3] == "0A" and int(parts[1].split(":")[1], 16) == port:
            inodes.add(f"socket:[{parts[9]}]")
    for pid, args in processes():
        try:
            links = [os.readlink(fd) for fd in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            continue
        if inodes.intersection(links):
            return f"{Path(args[0]).name} (pid {pid})"
    return "another user's process"
