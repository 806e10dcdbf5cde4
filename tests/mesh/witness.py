"""What the stories look at beside the answer itself: the proxy's access log, the metrics, and a TCP service."""

import json
import socket
import socketserver
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from prometheus_client.parser import text_string_to_metric_families

from tests.mesh.cluster import Host, wait_for


def access_rows(host: Host, **fields: object) -> list[dict[str, Any]]:
    """Lines of the proxy's access log (it shares meshd's output here) that have these fields."""
    found = []
    for line in host.log.read_text(errors="replace").splitlines():
        with suppress(ValueError):
            row = json.loads(line)
            if "reporter" in row and all(row.get(name) == value for name, value in fields.items()):
                found.append(row)
    return found


def logged(host: Host, seconds: float = 5.0, **fields: object) -> dict[str, Any]:
    """The last such line, once it is written: lines are handed over in batches."""
    return wait_for(f"access log of {host.name} has {fields}", lambda: access_rows(host, **fields), seconds)[-1]


def samples(host: Host, name: str, **labels: str) -> float:
    """The sum of a metric's samples with these labels, read by Prometheus' own parser."""
    total = 0.0
    for family in text_string_to_metric_families(host.metrics()):
        for sample in family.samples:
            if sample.name == name and labels.items() <= sample.labels.items():
                total += sample.value
    return total


class _Echo(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        while data := self.request.recv(65536):
            self.request.sendall(data)


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    allow_reuse_address = True


@contextmanager
def echo(address: str) -> Iterator[int]:
    """A TCP service that says what it hears; yields its port."""
    with _Server((address, 0), _Echo) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join(5)


def said_back(address: str, port: int, text: bytes = b"hello\n") -> bytes:
    """What a TCP service answers to `text`; empty: the connection was closed instead."""
    with socket.create_connection((address, port), 5) as sock:
        with suppress(ConnectionError):
            sock.sendall(text)
            return sock.recv(65536)
        return b""


def closed(sock: socket.socket, seconds: float) -> bool:
    """Whether the peer closes or resets within `seconds`."""
    sock.settimeout(seconds)
    try:
        return sock.recv(1) == b""
    except TimeoutError:
        return False
    except ConnectionError:
        return True
