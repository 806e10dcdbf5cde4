"""The three registries as things that break: killed, frozen, wiped, restored; hosts a (authority, web), b and c (api).

What the demo starts (`tests.demo.registry`) with what happens to it here. A wiped Consul or etcd has lost its accounts
too: `admit_again` is the operator who makes them anew, with the same secrets.
"""

import os
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGCONT, SIGSTOP
from typing import Protocol

from tests.demo import registry as demo
from tests.mesh.cluster import Cluster, Host
from tests.tools import tool


class Breakable(demo.DemoRegistry, Protocol):
    """`backup` and `restore` are the store's own tools; `restore` takes over a wiped store that runs."""

    def kill(self) -> None: ...

    def begin(self) -> None: ...

    def freeze(self) -> None: ...

    def thaw(self) -> None: ...

    def wipe(self) -> None: ...

    def admit_again(self) -> None: ...

    def backup(self, path: Path) -> None: ...

    def restore(self, path: Path) -> None: ...


class Embedded(demo.Embedded):
    """SQLite in the meshd of host a: the registry is away while that process is."""

    @property
    def host(self) -> Host:
        return self._mesh.hosts["a"]

    def kill(self) -> None:
        self.host.kill()

    def begin(self) -> None:
        self.host.start()

    def freeze(self) -> None:
        self.host.pause()

    def thaw(self) -> None:
        self.host.resume()

    def wipe(self) -> None:
        self.kill()
        self._remove()
        self.begin()

    def admit_again(self) -> None:
        return None

    def backup(self, path: Path) -> None:
        """Of the files, at rest: the running registry lets nobody else into them."""
        self.kill()
        path.mkdir()
        for part in self._parts():
            shutil.copy(part, path)
        self.begin()

    def restore(self, path: Path) -> None:
        self.kill()
        self._remove()
        for part in path.iterdir():
            shutil.copy(part, self.host.data_dir)
        self.begin()

    def _parts(self) -> list[Path]:
        return list(self.host.data_dir.glob("registry.sqlite*"))

    def _remove(self) -> None:
        for part in self._parts():
            part.unlink()


class Consul(demo.Consul):
    """ACLs (default deny) and TLS."""

    def kill(self) -> None:
        self._server.kill()

    def begin(self) -> None:
        self._server.start()

    def freeze(self) -> None:
        self._server.signal(SIGSTOP)

    def thaw(self) -> None:
        self._server.signal(SIGCONT)

    def wipe(self) -> None:
        self.kill()
        self._server.wipe()
        self.begin()

    def admit_again(self) -> None:
        self._server.tokens_again()

    def backup(self, path: Path) -> None:
        self._server.command("snapshot", "save", str(path))

    def restore(self, path: Path) -> None:
        self._server.command("snapshot", "restore", str(path))


class Etcd(demo.Etcd):
    """Accounts and TLS. A wiped etcd has no accounts: it lets everybody in."""

    def kill(self) -> None:
        self.server.stop()

    def begin(self) -> None:
        self.server.start()

    def freeze(self) -> None:
        self.server.signal(SIGSTOP)

    def thaw(self) -> None:
        self.server.signal(SIGCONT)

    def wipe(self) -> None:
        self.kill()
        self.server.wipe()
        self.begin()

    def admit_again(self) -> None:
        self.server.admit(demo.SERVED, authority="a")

    def backup(self, path: Path) -> None:
        self.server.etcdctl("snapshot", "save", str(path), user="root:root-secret")

    def restore(self, path: Path) -> None:
        self.kill()
        self.server.wipe()
        peer = f"http://{self.server.host}:{self.server.peer}"
        self.server.etcdctl(
            "snapshot", "restore", str(path), "--name", self.server.name, "--data-dir", str(self._data),
            "--initial-cluster", f"{self.server.name}={peer}", "--initial-advertise-peer-urls", peer,
        )  # fmt: skip
        self.begin()

    @property
    def _data(self) -> Path:
        return self.server.directory / "data"


KINDS: Mapping[str, Callable[[Cluster, demo.Note], Breakable]] = {
    "embedded": Embedded,
    "consul": Consul,
    "etcd": Etcd,
}


@contextmanager
def running(kind: str, mesh: Cluster) -> Iterator[Breakable]:
    """The registry of a mesh that has no hosts yet, started; ended with the block, and the operator's variables too."""
    tool("meshd-proxy")
    before = dict(os.environ)
    registry = KINDS[kind](mesh, lambda pid, name: None)
    try:
        registry.start()
        yield registry
        mesh.close()
    finally:
        registry.stop()
        os.environ.clear()
        os.environ.update(before)
