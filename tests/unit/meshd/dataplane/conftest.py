"""A fake proxy that listens, and a log that remembers."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.fakes.proxy import FakeProxy


class Lines:
    """Keeps every line for assertions."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, dict[str, object]]] = []

    def info(self, event: str, **fields: object) -> None:
        self.lines.append((event, fields))

    warning = info
    error = info

    def events(self) -> list[str]:
        return [event for event, _ in self.lines]


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
async def proxy(tmp_path: Path) -> AsyncIterator[FakeProxy]:
    fake = FakeProxy(tmp_path)
    await fake.start()
    yield fake
    await fake.stop()
