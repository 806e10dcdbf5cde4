import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from tests.fakes.mesh_api import MeshApi, serving

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def api() -> Iterator[MeshApi]:
    with serving() as fake:
        yield fake


@pytest.fixture
def meshctl(api: MeshApi) -> Run:
    """The real command in a process of its own, against the fake API."""

    def run(*args: str, stdin: str = "", target: str | None = None) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "from meshd.cli.main import main; main()", "--api", target or api.url, *args]
        return subprocess.run(command, capture_output=True, text=True, input=stdin, timeout=30, check=False)

    return run
