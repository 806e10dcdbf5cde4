"""50 changes a second to 200 hosts: nothing lost, how late each change came, and what it costs the store.

The hosts are the product's clients, watchers and folds in a few processes; every promise of a watch is held against
what each of them was told (`tests.contract.validators`). Each follows 10 of the 50 documents that change, by their
keys, as a host follows what it calls. The baseline is Consul, whose followers ask again after every change (blocking
queries): fewer hosts that follow everything, fewer changes, the CPU per change of etcd and of Consul for the same.
"""

import asyncio
import time
from collections.abc import Iterator
from dataclasses import dataclass

from registry import keys
from tests.bench import procfs
from tests.bench.control import stores, truth
from tests.bench.control.fleet import Fleet
from tests.bench.control.result import Bar, Row, milliseconds
from tests.bench.stage import Stage

P99 = 250.0  # ms from the put being sent to the fold of a host
COMPARED = 20  # hosts: Consul takes 200 connections from one address, and each of them keeps seven
CALLED = 10  # documents that a host follows
SETTLE = 15.0  # seconds until every host has the last change
IDLE = 3.0  # seconds in which the store's idle work is measured


@dataclass(frozen=True)
class Plan:
    """`rate` changes a second for `seconds`, to `hosts` that follow `called` of what changes; 0: everything."""

    kind: str
    hosts: int
    rate: float
    seconds: float
    called: int = 0


@dataclass(frozen=True)
class Outcome:
    late: list[float]  # seconds, of every change at every host that was told of it
    broken: list[str]  # hosts to which a promise was broken
    resyncs: int
    changes: int
    took: float  # seconds of writing
    store_cpu: float  # seconds beyond the store's idle work, per change
    behind: bool  # the writer could not keep the rate


def measure(*, short: bool) -> Iterator[Row]:
    plan = Plan("etcd", 8, 20.0, 2.0, CALLED) if short else Plan("etcd", 200, 50.0, 60.0, CALLED)
    ours = _run(plan)
    yield _row(plan, ours, [] if short else [Bar("p99 ms", milliseconds(ours.late)["p99"], P99)])
    for kind in () if short else stores.KINDS:
        compared = Plan(kind, COMPARED, 4.0, 15.0)
        yield _row(compared, _run(compared), [])


def _row(plan: Plan, found: Outcome, bars: list[Bar]) -> Row:
    late = milliseconds(found.late)
    rate = found.changes / found.took
    fields = {
        "store": plan.kind, "hosts": plan.hosts, "followed": plan.called or "everything", "rate": round(rate, 1),
        "changes": found.changes,
        "deliveries": len(found.late), "late_ms": late, "store_cpu_ms_per_change": round(found.store_cpu * 1000, 3),
        "resyncs": found.resyncs, "broken": found.broken[:3],
    }  # fmt: skip
    told = len(found.late) / found.changes
    line = (
        f"{plan.kind}: {found.changes} changes at {rate:.0f}/s to {plan.hosts} hosts ({told:.0f} told of each): median "
        f"{late['median']} ms, p99 {late['p99']} ms; {found.store_cpu * 1000:.2f} ms of the store's CPU per change; "
        f"{len(found.broken)} hosts to which a promise was broken"
    )
    broken = f"{len(found.broken)} hosts lost something: {found.broken[0]}" if found.broken else ""
    return Row("fanout", fields, line, bars, broken or ("the rate was not kept" if found.behind else ""))


def _run(plan: Plan) -> Outcome:
    with stores.staged(plan.kind) as (stage, server), Fleet(stage, server, plan.hosts, called=plan.called) as fleet:
        fleet.ready()
        return asyncio.run(_drive(stage, server, fleet, plan))


async def _drive(stage: Stage, server: stores.Server, fleet: Fleet, plan: Plan) -> Outcome:
    idle = procfs.run_seconds([server.pid()])
    await asyncio.sleep(IDLE)
    idle = (procfs.run_seconds([server.pid()]) - idle) / IDLE
    before, began = procfs.run_seconds([server.pid()]), time.monotonic()
    async with stores.bare(plan.kind, server.url) as client:
        written = await _write(client, plan)
    took = time.monotonic() - began
    last = written[-1][1]
    await asyncio.to_thread(_settled, fleet, last)
    cpu = procfs.run_seconds([server.pid()]) - before - idle * (time.monotonic() - began)
    path = stage.directory / "truth.json"
    truth.save(path, written)
    answers = await asyncio.to_thread(fleet.ask, "truth", path=str(path))
    return Outcome(
        late=[late for answer in answers for late in answer["late"]],
        broken=[broken for answer in answers for broken in answer["broken"]],
        resyncs=sum(answer["resyncs"] for answer in answers),
        changes=len(written),
        took=took,
        store_cpu=max(0.0, cpu) / len(written),
        behind=took > plan.seconds * 1.2 + 1,
    )


async def _write(client: stores.Bare, plan: Plan) -> list[tuple[int, str, bytes]]:
    """Changes on schedule, one key after the other; the last one is of a key of its own."""
    written: list[tuple[int, str, bytes]] = []
    count = round(plan.rate * plan.seconds)
    began = time.monotonic()
    for number in range(count + 1):
        await asyncio.sleep(max(0.0, began + number / plan.rate - time.monotonic()))
        key = keys.policy(truth.KIND, f"s{number % truth.DOCUMENTS}" if number < count else truth.LAST)
        value = document(time.monotonic(), number)
        written.append((await client.put(key, value), key, value))
    return written


def document(sent: float, number: int) -> bytes:
    """A document with a comment that says when it was sent."""
    return b'{"Sources": [{"Name": "s%d", "Action": "allow"}]} # %.6f' % (number, sent)


def _settled(fleet: Fleet, key: str) -> None:
    end = time.monotonic() + SETTLE
    while time.monotonic() < end:
        if all(at is not None for answer in fleet.ask("marker", key=key) for at in answer["times"]):
            return
        time.sleep(0.1)
