"""A real Consul agent in development mode (in memory, one server), on addresses that nobody else uses."""

import json
import secrets
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.tools import tool

START = 30.0  # seconds until a leader is elected


@contextmanager
def consul_agent(program: str = "consul") -> Iterator[str]:
    """The URL of a running agent that has a leader; killed with its data at the end."""
    binary = tool(program)
    host = random_host()
    http, server, lan, wan = free_ports(host, 4)
    directory = Path(tempfile.mkdtemp(prefix="consul-"))
    command = [str(binary), "agent", "-dev", "-node", "n1", "-bind", host, "-client", host, "-log-level", "warn"]
    command += ["-http-port", str(http), "-server-port", str(server), "-serf-lan-port", str(lan)]
    command += ["-serf-wan-port", str(wan), "-grpc-port", "-1", "-dns-port", "-1"]
    with (directory / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, cwd=directory)
    url = f"http://{host}:{http}"
    try:
        _await_leader(process, url, directory / "log")
        yield url
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(directory)


def random_host() -> str:
    """A loopback address that nobody else uses."""
    return f"127.{1 + secrets.randbelow(200)}.{secrets.randbelow(255)}.{1 + secrets.randbelow(250)}"


def free_ports(host: str, count: int) -> list[int]:
    """Ports of `host` that are free now: consul wants fixed numbers."""
    opened = [socket.socket() for _ in range(count)]
    try:
        for each in opened:
            each.bind((host, 0))
        return [int(each.getsockname()[1]) for each in opened]
    finally:
        for each in opened:
            each.close()


def _await_leader(process: subprocess.Popen[bytes], url: str, log: Path) -> None:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        try:
            with urllib.request.urlopen(f"{url}/v1/health/service/consul?passing", timeout=2) as answer:
                if json.load(answer):
                    return
        except OSError:
            pass
        time.sleep(0.05)
    raise RuntimeError(f"consul did not start:\n{log.read_text()[-2000:]}")
