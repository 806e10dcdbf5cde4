"""A host whose local API is not open: rights are as outside of development."""

import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshd import serve
from meshd.config import load
from registry.api.access import Access
from registry.ca.init import First, init
from tests.unit.meshd.conftest import Single, settings


@pytest.fixture
async def guarded(short_tmp: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Single]:
    host = load(None, {}, settings(short_tmp))
    # Loopback can be advertised in development only, which also opens the API: close it again.
    monkeypatch.setattr(serve, "access", lambda host: Access(open=False))
    init(host.data, First(host.node), time.time())
    host.run.mkdir(parents=True)
    made = Single(host)
    await made.start()
    yield made
    await made.stop()
