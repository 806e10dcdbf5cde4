"""Every contract test runs once per backend that has what it needs; no test is skipped."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.contract.backends import BACKENDS, Backend, Bench
from tests.contract.consul_backends import HTTP_BACKENDS
from tests.contract.etcd_backends import ETCD_BACKENDS


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "bench" in metafunc.fixturenames:
        wanted: frozenset[str] = getattr(metafunc.function, "needs", frozenset())
        able = [backend for backend in (*BACKENDS, *HTTP_BACKENDS, *ETCD_BACKENDS) if wanted <= backend.can]
        assert able, f"{metafunc.function.__name__} needs {sorted(wanted)}, which no backend has"
        metafunc.parametrize("backend", able, ids=[backend.name for backend in able])


@pytest_asyncio.fixture
async def bench(backend: Backend, tmp_path: Path) -> AsyncIterator[Bench]:
    async with backend.open(tmp_path) as opened:
        yield opened
