"""Requests and load that the demo sends through the mesh, and what it measures of them."""

import http.client
import json
import socket
import ssl
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from cryptography import x509

from tests.mesh.cluster import ROOT, Failed


def versions(url: str, count: int) -> Counter[str]:
    """`count` GETs on one kept connection; how many each version of the app answered. Raises Failed on any other."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    seen: Counter[str] = Counter()
    try:
        for _ in range(count):
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise Failed(f"{url}: {answer.status} {body[:200]!r}")
            seen[json.loads(body)["version"]] += 1
    finally:
        connection.close()
    return seen


def until_status(url: str, status: int, write: Callable[[], None], seconds: float = 10.0) -> float:
    """Milliseconds from the start of `write` to the first request that got `status` after it."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=10)
    started = time.monotonic()
    write()
    last = 0
    try:
        while time.monotonic() - started < seconds:
            connection.request("GET", parts.path or "/")
            answer = connection.getresponse()
            answer.read()
            last = answer.status
            if last == status:
                return (time.monotonic() - started) * 1000
    finally:
        connection.close()
    raise Failed(f"{url}: still {last} after {seconds:g} s, {status} expected")


class Load:
    """`python -m tests.load` beside whatever happens to the mesh meanwhile."""

    def __init__(self, url: str, *, rate: int, count: int):
        command = [sys.executable, "-m", "tests.load", "--url", url, "--rate", str(rate)]
        command += ["--conns", "8", "--count", str(count), "--json"]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT)

    def result(self, seconds: float = 120.0) -> dict[str, object]:
        """Its report: ok, failed, errors, latency."""
        out, errors = self._process.communicate(timeout=seconds)
        if not out.strip():
            raise Failed(f"the load generator said nothing: {errors[-300:]}")
        report: dict[str, object] = json.loads(out)
        return report

    def ended(self) -> bool:
        return self._process.poll() is not None

    def stop(self) -> None:
        self._process.kill()
        self._process.communicate()


def certificate_on_the_wire(address: str, port: int, sni: str, identity: Path, roots: Path) -> str:
    """Dial the inbound port as the instance whose key and certificate are at `identity`; the peer's SPIFFE id."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False  # the name is the SPIFFE id, read below
    context.load_verify_locations(roots)
    context.load_cert_chain(identity.with_suffix(".crt"), identity.with_suffix(".key"))
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_connection((address, port), 5) as plain, context.wrap_socket(plain, server_hostname=sni) as tls:
        der = tls.getpeercert(binary_form=True)
    if der is None:
        raise Failed(f"{address}:{port} showed no certificate")
    names = x509.load_der_x509_certificate(der).extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return ", ".join(names.get_values_for_type(x509.UniformResourceIdentifier))
