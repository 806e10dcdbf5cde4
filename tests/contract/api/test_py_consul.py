"""The unmodified py-consul as a foreign client of the embedded registry: its stories, each in its own process."""

import asyncio
import os
import sys
from pathlib import Path

import pytest
from aiohttp.test_utils import TestClient

from tests.tools import package

SCRIPT = Path(__file__).with_name("py_consul_client.py")


@pytest.mark.parametrize("story", ["registration", "probes", "catalogue", "kv", "blocking", "sessions"])
async def test_py_consul(api: TestClient, story: str) -> None:
    place = package("py-consul")
    environ = {name: value for name, value in os.environ.items() if not name.startswith("CONSUL_")}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), story, str(api.port),
        env={**environ, "PYTHONPATH": str(place)}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, error = await asyncio.wait_for(process.communicate(), 40)
    assert process.returncode == 0, error.decode()
    assert out.decode().startswith(str(place))  # it was this package, not its namesake
