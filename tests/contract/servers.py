"""Servers of a test's own, which it kills, freezes and wipes; the foreign ones with TLS and ACLs or authentication."""

import shutil
import subprocess
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGCONT, SIGKILL, Signals
from typing import Protocol

from registry.backends.consul import ConsulStore
from registry.backends.consul_registry import ConsulRegistry
from registry.backends.etcd import EtcdStore
from registry.backends.etcd_links import Backoff as EtcdBackoff
from registry.backends.etcd_links import Tls
from registry.store import Store
from tests.consul_agent import START, free_ports, random_host
from tests.consul_server import NEWER, OLDER, ConsulServer
from tests.etcd_server import QUICK_LOGINS, ROOT_ACCOUNT, etcd_server, guard, newer, older
from tests.etcd_server import Server as EtcdServer
from tests.fakes.pki import Pki
from tests.fakes.running import running
from tests.tools import ROOT

WAIT = 1.0  # seconds of a blocking query
Opener = Callable[[], Store]


class Process(Protocol):
    """The ports and the data stay over `end` and `start`; `wipe` takes the data, and must not run."""

    def start(self) -> object: ...

    def end(self, number: Signals) -> None: ...

    def signal(self, number: Signals) -> None: ...

    def wipe(self) -> None: ...


@dataclass
class Embedded:
    directory: Path
    host: str
    port: int
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        data = self.directory / "data"
        data.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.contract.embedded_server"]
        command += [str(data / "registry.db"), self.host, str(self.port)]
        with (self.directory / "log").open("ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, cwd=ROOT, start_new_session=True)
        deadline = time.monotonic() + START
        while time.monotonic() < deadline:
            try:
                with urllib.request.urlopen(f"http://{self.host}:{self.port}/v1/status/leader", timeout=2):
                    return
            except OSError:
                time.sleep(0.05)  # sleep: between two looks
        raise RuntimeError(f"the embedded registry did not start:\n{(self.directory / 'log').read_text()[-2000:]}")

    def end(self, number: Signals) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(SIGCONT)
            self.process.send_signal(number)
            self.process.wait(20)

    def signal(self, number: Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def wipe(self) -> None:
        shutil.rmtree(self.directory / "data")


@contextmanager
def embedded(directory: Path) -> Iterator[tuple[Process, Opener]]:
    host = random_host()
    server = Embedded(directory, host, free_ports(host, 1)[0])
    server.start()
    try:
        yield server, lambda: ConsulStore([f"http://{host}:{server.port}"], wait=WAIT)
    finally:
        server.end(SIGKILL)


@contextmanager
def consul(program: str, directory: Path) -> Iterator[tuple[Process, Opener]]:
    server = ConsulServer(directory, random_host(), program=program)
    server.start()
    try:
        yield (
            server,
            lambda: ConsulRegistry(
                [server.url], token=lambda: server.management, ssl=server.client_context(), wait=WAIT
            ),
        )
    finally:
        server.kill()


@dataclass
class Guarded:
    """An etcd whose authentication is switched on again when its data are gone."""

    server: EtcdServer
    wiped: bool = True

    def start(self) -> None:
        self.server.start()
        if self.wiped:
            guard(self.server)
        self.wiped = False

    def end(self, number: Signals) -> None:
        self.server.stop(number)

    def signal(self, number: Signals) -> None:
        self.server.signal(number)

    def wipe(self) -> None:
        self.server.wipe()
        self.wiped = True


@contextmanager
def etcd(binary: Path, directory: Path) -> Iterator[tuple[Process, Opener]]:
    server = etcd_server(binary, directory, QUICK_LOGINS)
    pki = Pki(directory / "pki")
    server.tls = (*pki.issue("server", address=server.host), pki.roots)
    client = Tls(*(path.read_bytes() for path in (pki.roots, *pki.issue("client"))))
    guarded = Guarded(server)
    guarded.start()
    try:
        yield (
            guarded,
            lambda: EtcdStore(
                [server.url],
                token=lambda: ROOT_ACCOUNT,
                tls=lambda: client,
                backoff=EtcdBackoff(jitter=lambda: 0.2),
            ),
        )
    finally:
        guarded.end(SIGKILL)


SERVERS = {
    "embedded-http": embedded,
    "consul-1.8": lambda directory: consul(OLDER, directory),
    "consul-1.13": lambda directory: consul(NEWER, directory),
    "etcd-3.4": lambda directory: etcd(older(), directory),
    "etcd-3.7": lambda directory: etcd(newer(), directory),
}


@asynccontextmanager
async def opened(opener: Opener) -> AsyncIterator[Store]:
    """A store with what its watches need running."""
    store = opener()
    parts = [store.run()] if isinstance(store, EtcdStore | ConsulStore) else []
    async with running(*parts):
        try:
            yield store
        finally:
            await store.close()
