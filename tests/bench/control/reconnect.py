"""200 hosts come back after the store was restarted, while requests pass between two real hosts.

The store is stopped, is away for some seconds, and starts again. Measured are the connections it takes per second, as
its own counter of watch streams shows, how long it is until every host has what was written after the start, and the
requests that failed meanwhile. The baseline is how long a host takes that starts anew beside all of them.
"""

import asyncio
import json
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field

from registry import keys
from tests.bench.control import fanout, pair, stores
from tests.bench.control.fleet import Fleet
from tests.bench.control.result import Bar, Row
from tests.bench.stage import wait_for
from tests.tools import ROOT

SETTLED = 10.0  # seconds after the store answers again
PEAK = 100.0  # new watch streams in any tenth of a second: half of the hosts would be a stampede
AWAY = 3.0  # seconds without the store
RATE = 200  # requests a second
MARKER = keys.policy("service-intentions", "marker")
STREAMS = "grpc_server_started_total"


@dataclass
class Counter:
    """Samples the store's count of streams and calls begun, in a thread."""

    server: stores.Server
    samples: list[tuple[float, float]] = field(default_factory=list)
    _ended: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._ended.wait(0.05):
            try:
                self.samples.append((time.monotonic(), self.server.metric("grpc_server_started_total")))
            except OSError:
                continue

    def end(self) -> None:
        self._ended.set()

    def peak(self, window: float) -> float:
        """The most that came within `window` seconds."""
        best = 0.0
        for number, (at, count) in enumerate(self.samples):
            before = [c for t, c in self.samples[:number] if t <= at - window]
            best = max(best, count - (before[-1] if before else 0.0))
        return best


def measure(*, short: bool) -> Iterator[Row]:
    yield _one(hosts=8 if short else 200, seconds=15 if short else 30, short=short)


def _one(*, hosts: int, seconds: int, short: bool) -> Row:
    with stores.staged("etcd") as (stage, server), ExitStack() as around:
        mesh = pair.start(stage, server.settings)
        fleet = around.enter_context(Fleet(stage, server, hosts)).ready()
        load = subprocess.Popen(_load(pair.url(mesh, pair.API_PORT), seconds), stdout=subprocess.PIPE, cwd=ROOT)
        around.callback(load.kill)
        server.stop()
        time.sleep(AWAY)
        server.start()
        back = time.monotonic()
        counter = Counter(server)
        thread = threading.Thread(target=counter.run)
        thread.start()
        try:
            asyncio.run(_mark(server))
            wait_for("every host has what was written since", lambda: None not in _seen(fleet), 60, every=0.1)
        finally:
            counter.end()
            thread.join()
        settled = max(at for at in _seen(fleet) if at is not None) - back
        contacts = sorted(at - back for answer in fleet.ask("contact", since=back - 1) for at in answer["times"] if at)
        report = json.loads(load.communicate(timeout=seconds + 30)[0])
        return _row(hosts, settled, contacts, counter, report, short=short)


def _row(
    hosts: int, settled: float, contacts: list[float], counter: Counter, report: dict[str, object], *, short: bool
) -> Row:
    peak = max(sum(start <= at < start + 0.1 for at in contacts) for start in contacts) if contacts else 0
    fields = {
        "store": "etcd", "hosts": hosts, "away_s": AWAY, "settled_s": round(settled, 3), "hosts_back": len(contacts),
        "first_back_s": round(contacts[0], 3) if contacts else None, "peak_hosts_per_100ms": peak,
        "peak_calls_per_s": counter.peak(1.0), "requests_ok": report["ok"], "requests_failed": report["failed"],
    }  # fmt: skip
    line = (
        f"{hosts} hosts back {settled:.2f} s after the store, {peak} in the busiest 100 ms, {counter.peak(1.0):.0f} "
        f"calls and streams begun in the busiest second; requests: {report['ok']} answered, {report['failed']} failed"
    )
    invalid = "" if report["ok"] else "no request was answered"
    bars = [Bar("failed requests", float(str(report["failed"])), 0.0), Bar("settled s", settled, SETTLED)]
    return Row("reconnect", fields, line, bars if short else [*bars, Bar("peak", peak, PEAK)], invalid)


def _load(url: str, seconds: int) -> list[str]:
    rate = ["--rate", str(RATE), "--seconds", str(seconds), "--json"]
    return [sys.executable, "-m", "tests.load", "--url", url, *rate]


async def _mark(server: stores.Server) -> None:
    async with stores.bare("etcd", server.url) as client:
        await client.put(MARKER, fanout.document(time.monotonic(), 0))


def _seen(fleet: Fleet) -> list[float | None]:
    return [at for answer in fleet.ask("marker", key=MARKER) for at in answer["times"]]
