"""Hosts in one process: `python -m tests.bench.control.simulated KIND URL CALLED HOSTS NUMBER`, ruled over stdin.

Each host follows everything (CALLED 0), or so many of the documents that change, each by its key.

Each line on stdin is a JSON object with `do`, each answer one line on stdout:

ready    when every host has listed everything
truth    {path}: what was written, as JSON [[index, key, value], ...]; answers what the hosts make of it, each of the
         promises of a watch held against it (`tests.contract.validators`), and how late each change came
contact  {since}: when each host heard from the store again after that time (monotonic seconds), null: not yet
marker   {key}: when each host first saw the key, null: not yet

Values end in ` # <monotonic seconds at which they were sent>`: a comment to whoever reads the document.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from meshd.tasks import Tasks
from registry import keys
from registry.fold import Fold
from registry.interest import BASE, EVERYTHING
from registry.store import Alive, Batch, Entry, Lost, Resync, Store, WatchEvent
from registry.watch import Watcher
from tests.bench.control.stores import open_store
from tests.bench.control.truth import DOCUMENTS, KIND, LAST, Write, Written, matches, read
from tests.contract.validators import honest, ordered, reliable, unique


class Shared:
    """One copy of what all hosts of a process are told: a history per host would not fit otherwise."""

    def __init__(self) -> None:
        self._entries: dict[tuple[str, int], Entry] = {}

    def entry(self, entry: Entry) -> Entry:
        return self._entries.setdefault((entry.key, entry.version), entry)

    def event(self, event: WatchEvent) -> WatchEvent:
        if isinstance(event, Batch):
            return Batch(event.index, tuple(map(self.entry, event.puts)), event.deletes)
        if isinstance(event, Resync):
            return Resync(event.index, tuple(map(self.entry, event.entries)))
        return event


class Lines:
    """What a host logs goes to the process's stderr, which is a file."""

    def info(self, event: str, **fields: object) -> None:
        return None

    def warning(self, event: str, **fields: object) -> None:
        print(event, fields, file=sys.stderr, flush=True)

    error = warning


class Simulated:
    """The registry side of one host. Times are monotonic seconds, the same clock in all processes of a machine."""

    def __init__(self, store: Store, shared: Shared, selectors: frozenset[str] = EVERYTHING) -> None:
        self.selectors = selectors
        self._tasks = Tasks("simulated", Lines())
        self._watcher = Watcher(store, self._tasks.start)
        self._store = store
        self._shared = shared
        self.fold = Fold()
        self.listed = asyncio.Event()
        self.histories: dict[str, list[WatchEvent]] = {}  # by selector of documents
        self.late: list[float] = []
        self.first_seen: dict[str, float] = {}
        self.contacts: list[float] = []

    async def run(self) -> None:
        run = getattr(self._store, "run", None)
        self.fold.want(self.selectors)
        self._watcher.want(self.selectors)
        try:
            await asyncio.gather(self._follow(), self._tasks.failed(), *([run()] if run is not None else []))
        finally:
            await self._tasks.stop()

    async def _follow(self) -> None:
        while True:
            selector, event = await self._watcher.events.get()
            self.take(selector, event, time.monotonic())

    def take(self, selector: str, event: WatchEvent, now: float) -> None:
        lost = bool(self.fold.unreachable)
        self.fold.apply(selector, event, now)
        if lost and not self.fold.unreachable:
            self.contacts.append(now)
        if self.fold.complete:
            self.listed.set()
        if selector.startswith(keys.POLICY):
            self._record(selector, event, now)

    def _record(self, selector: str, event: WatchEvent, now: float) -> None:
        if isinstance(event, Lost | Alive):
            return
        self.histories.setdefault(selector, []).append(self._shared.event(event))
        for entry in event.puts if isinstance(event, Batch) else event.entries:
            sent = stamp(entry.value)
            if sent is not None and isinstance(event, Batch):
                self.late.append(now - sent)
            self.first_seen.setdefault(entry.key, now)


def stamp(value: bytes) -> float | None:
    """When it was sent."""
    _, mark, text = value.rpartition(b" # ")
    return float(text) if mark else None


def judge(host: Simulated, written: Sequence[Write]) -> str:
    """Which promise was broken; empty: none."""
    for selector in sorted(one for one in host.selectors if one.startswith(keys.POLICY)):
        truth, history = Written.of(written, selector), host.histories.get(selector, [])
        try:
            ordered(history)
            unique(history)
            honest(history)
            if truth.indexed:
                reliable(history, truth)
        except AssertionError as broken:
            return str(broken)[:300]
        held = {key: one.text for key, one in documents(host.fold).items() if matches(selector, key)}
        if held != truth.state:
            return f"{selector}: what it holds at the end is not what was written"
    return ""


def documents(fold: Fold) -> dict[str, Any]:
    return {keys.policy(*name): document for name, document in fold.documents.items() if name[0] != "mesh"}


class Process:
    """The hosts of this process and the answers about them."""

    def __init__(self, hosts: Sequence[Simulated]) -> None:
        self._hosts = hosts

    async def answer(self, asked: dict[str, Any]) -> dict[str, Any]:
        if asked["do"] == "ready":
            await asyncio.gather(*(host.listed.wait() for host in self._hosts))
            return {"hosts": len(self._hosts)}
        if asked["do"] == "contact":
            found = ([at for at in host.contacts if at >= asked["since"]] for host in self._hosts)
            return {"times": [at[0] if at else None for at in found]}
        if asked["do"] == "marker":
            return {"times": [host.first_seen.get(asked["key"]) for host in self._hosts]}
        written = read(Path(asked["path"]))
        verdicts = [judge(host, written) for host in self._hosts]
        return {
            "late": [round(late, 6) for host in self._hosts for late in host.late],
            "broken": [verdict for verdict in verdicts if verdict],
            "selectors": sum(len(host.histories) for host in self._hosts),
            "resyncs": sum(
                isinstance(event, Resync) for host in self._hosts for told in host.histories.values() for event in told
            ),
        }


def followed(called: int, host: int) -> frozenset[str]:
    """Host number `host` follows `called` documents, and the last one; 0: everything."""
    names = [f"s{(host * called + number) % DOCUMENTS}" for number in range(called)]
    return BASE | {keys.policy(KIND, name) for name in (*names, LAST)} if called else EVERYTHING


async def serve(kind: str, url: str, called: int, count: int, number: int) -> None:
    """Until stdin ends."""
    shared = Shared()
    hosts = [Simulated(open_store(kind, url), shared, followed(called, number * count + host)) for host in range(count)]
    loop = asyncio.get_running_loop()
    running = [loop.create_task(host.run()) for host in hosts]
    for task in running:
        task.add_done_callback(_crashed)
    process = Process(hosts)
    while line := await asyncio.to_thread(sys.stdin.readline):
        print(json.dumps(await process.answer(json.loads(line))), flush=True)
    for task in running:
        task.cancel()


def _crashed(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        print(f"a simulated host ended: {task.exception()!r}", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind")
    parser.add_argument("url")
    parser.add_argument("called", type=int)
    parser.add_argument("hosts", type=int)
    parser.add_argument("number", type=int)
    args = parser.parse_args()
    asyncio.run(serve(args.kind, args.url, args.called, args.hosts, args.number))


if __name__ == "__main__":
    main()
