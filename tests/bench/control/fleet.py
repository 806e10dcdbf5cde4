"""Simulated hosts: the product's store clients, watchers and folds, many to a process (`simulated`)."""

import json
import subprocess
import sys
from types import TracebackType
from typing import Any, Self

from tests.bench.control.stores import Server
from tests.bench.stage import Stage
from tests.tools import ROOT

PROCESSES = 4
READY_WITHIN = 120.0  # seconds


class Fleet:
    """`count` hosts that follow the store. Use as a context manager. `called`: how many documents each of them follows
    by its key, as hosts do for what they call; 0: everything."""

    def __init__(self, stage: Stage, server: Server, count: int, *, called: int = 0) -> None:
        self.count = count
        self._directory = stage.directory
        self._command = [sys.executable, "-m", "tests.bench.control.simulated", server.kind, server.url, str(called)]
        self._running: list[subprocess.Popen[str]] = []

    def __enter__(self) -> Self:
        share, rest = divmod(self.count, PROCESSES)
        for number in range(PROCESSES):
            hosts = share + (number < rest)
            with (self._directory / f"fleet-{number}.log").open("wb") as log:
                command = [*self._command, str(hosts), str(number)]
                self._running.append(
                    subprocess.Popen(
                        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, cwd=ROOT, text=True
                    )
                )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process in self._running:
            process.kill()
        for process in self._running:
            process.communicate()

    @property
    def pids(self) -> list[int]:
        return [process.pid for process in self._running]

    def ready(self) -> "Fleet":
        """When every host has listed everything."""
        self._ask("ready")
        return self

    def ask(self, what: str, **fields: object) -> list[dict[str, Any]]:
        """One answer from each process: see `simulated`."""
        return self._ask(what, **fields)

    def _ask(self, what: str, **fields: object) -> list[dict[str, Any]]:
        for process in self._running:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"do": what, **fields}) + "\n")
            process.stdin.flush()
        return [self._answer(process) for process in self._running]

    def _answer(self, process: "subprocess.Popen[str]") -> dict[str, Any]:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"a process of simulated hosts ended with {process.wait(5)}")
        answer: dict[str, Any] = json.loads(line)
        return answer
