"""Tasks: a crash ends the owner or restarts with backoff; cancellation always travels on."""

import asyncio

import pytest

from meshd.placed import ConfigError, Fault
from meshd.tasks import Crashed, Restart, Tasks, first


class Lines:
    def __init__(self) -> None:
        self.events: list[tuple[str, dict[str, object]]] = []

    def error(self, event: str, **fields: object) -> None:
        self.events.append((event, fields))


async def test_a_crash_without_restart_fails_the_owner() -> None:
    log = Lines()
    tasks = Tasks("host", log)

    async def run() -> None:
        raise RuntimeError("broken")

    tasks.start("sync", run)
    with pytest.raises(Crashed, match=r"host/sync: RuntimeError\('broken'\)"):
        await tasks.failed()
    assert log.events[0][1]["task"] == "sync"
    assert len(tasks) == 0


async def test_a_wrong_configuration_is_passed_on_without_a_trace() -> None:
    log = Lines()
    tasks = Tasks("host", log)

    async def run() -> None:
        raise ConfigError(Fault("Ports.Inbound", "is taken"))

    tasks.start("proxy", run, restart=Restart(first=0.001))
    with pytest.raises(Crashed) as crash:
        await tasks.failed()
    assert isinstance(crash.value.__cause__, ConfigError)
    assert log.events == []


async def test_a_crash_with_restart_runs_again() -> None:
    tasks = Tasks("host", Lines(), chance=lambda: 0.0)
    runs = 0
    done = asyncio.Event()

    async def run() -> None:
        nonlocal runs
        runs += 1
        if runs < 3:
            raise RuntimeError
        done.set()

    tasks.start("flaky", run, restart=Restart(first=0.001))
    await asyncio.wait_for(done.wait(), 5)
    assert runs == 3


async def test_stop_cancels_newest_first() -> None:
    tasks = Tasks("host", Lines())
    ended: list[str] = []
    started = asyncio.Barrier(3)

    def make(name: str) -> None:
        async def run() -> None:
            try:
                await started.wait()
                await asyncio.Event().wait()
            finally:
                ended.append(name)

        tasks.start(name, run)

    make("first")
    make("second")
    await started.wait()
    await tasks.stop()
    assert ended == ["second", "first"]
    assert len(tasks) == 0


async def test_a_task_that_does_not_stop_is_named() -> None:
    log = Lines()
    tasks = Tasks("host", log)
    release = asyncio.Event()
    running = asyncio.Event()

    async def run() -> None:
        running.set()
        try:
            await asyncio.Event().wait()
        finally:
            await release.wait()

    task = tasks.start("stubborn", run, stop_within=0.01)
    await running.wait()
    await tasks.stop()
    assert log.events == [("task did not stop", {"owner": "host", "task": "host/stubborn", "seconds": 0.01})]
    release.set()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_backoff_doubles_to_a_limit_with_jitter() -> None:
    restart = Restart(first=1.0, limit=8.0)
    assert [restart.delay(n, 1.0) for n in range(5)] == [1, 2, 4, 8, 8]
    assert restart.delay(3, 0.0) == 4
    assert restart.delay(10_000, 1.0) == 8


async def test_first_cancels_the_others_and_raises() -> None:
    cancelled = asyncio.Event()

    async def waits() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.set()

    async def fails() -> None:
        await asyncio.sleep(0)
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        await first(waits(), fails())
    assert cancelled.is_set()


async def test_first_ends_with_the_first() -> None:
    async def quick() -> None:
        return

    await first(asyncio.Event().wait(), quick())  # type: ignore[arg-type] - what it returns does not matter here
