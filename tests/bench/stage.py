"""Where one topology runs: a loopback network of its own, a directory, its processes, and their end."""

import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

from tests.bench import procfs
from tests.bench.certificates import Certificates, make
from tests.mesh.cluster import Process, random_net, wait_for
from tests.tools import find


class Missing(Exception):
    """A program that this topology needs is not on this machine."""


@dataclass(frozen=True)
class Target:
    """A started topology. `proxies` are measured, `control` (meshd) is measured beside them; both asked each time."""

    url: str
    proxies: Callable[[], list[int]]
    control: Callable[[], list[int]]


class Stage:
    """Use as a context manager. Each stage has a random 127.x.y.0/24, so fixed ports never meet another run's."""

    def __init__(self, *, workers: int = 1) -> None:
        self.workers = workers
        self.net = random_net()
        self.directory = Path(tempfile.mkdtemp(prefix="bench-"))
        self.directory.chmod(0o755)  # nginx's workers are nobody's when the master is root
        self._processes: list[tuple[Process, bool]] = []
        self._on_close: list[Callable[[], None]] = []

    def __enter__(self) -> "Stage":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for close in reversed(self._on_close):
            close()
        for process, _ in reversed(self._processes):
            process.end(5)
        if error is None or os.environ.get("KEEP") != "1":
            shutil.rmtree(self.directory, ignore_errors=True)

    def file(self, name: str, text: str) -> Path:
        path = self.directory / name
        path.write_text(text)
        return path

    def start(self, name: str, program: str, *args: str, measured: bool) -> None:
        """Start a foreign program. Raises Missing."""
        found = find(program)
        if found is None:
            raise Missing(program)
        process = Process(name, [str(found), *args], self.directory / f"{name}.log")
        self._processes.append((process, measured))

    def on_close(self, close: Callable[[], None]) -> None:
        self._on_close.append(close)

    def measured(self) -> list[int]:
        """All processes of the proxies under measurement."""
        return [pid for process, wanted in self._processes if wanted for pid in procfs.descendants(process.pid)]

    def check(self) -> None:
        """Raises RuntimeError naming a process that has ended: waiting longer is useless then."""
        for process, _ in self._processes:
            if not process.alive:
                raise RuntimeError(f"{process.name} ended with {process.popen.returncode}")

    def certificates(self) -> Certificates:
        return make(self.directory / "certificates")

    def logs(self, lines: int = 15) -> str:
        """The ends of all logs, for a failure's message."""
        ends = []
        for log in sorted(self.directory.rglob("*.log")):
            tail: Sequence[str] = log.read_text(errors="replace").splitlines()[-lines:]
            if tail:
                ends.append(f"---- {log.relative_to(self.directory)}\n" + "\n".join(tail))
        return "\n".join(ends)


__all__ = ["Missing", "Stage", "Target", "wait_for"]
