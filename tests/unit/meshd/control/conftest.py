"""A log that remembers, a clock that is set, and a catalogue over a store in memory."""

import pytest

from registry.catalog import KvCatalog
from tests.fakes.store import MemoryStore


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


class Clock:
    """Seconds that only a test moves."""

    def __init__(self, now: float = 1000.0) -> None:
        self.now = now

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def log() -> Lines:
    return Lines()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def catalog(store: MemoryStore) -> KvCatalog:
    return KvCatalog(store)
