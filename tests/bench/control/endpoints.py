"""One change among 10,000 endpoints of one service, from the watch event to `Applied` of a real proxy.

The product's fold, compiler and control link feed a real `meshd-proxy` over its control socket. Timed is what the proxy
takes: from the Update frame being sent to Applied being read; beside it what meshd's own parts take before that. The
baseline is the same change among 10 endpoints, in the same run.
"""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median

import msgspec

from meshd.control.compilation import Endpoints
from meshd.dataplane.client import Dataplane
from meshd.dataplane.link import Link, open_link
from policies.compile import Compiler, HostView
from policies.compiled import Applied, Rejected
from registry import keys, values
from registry.fold import Fold
from registry.interest import EVERYTHING
from registry.model import Address, Instance, Mesh, Upstream
from registry.store import Batch, Entry, Resync
from tests.bench.control.result import Bar, Row, milliseconds
from tests.bench.stage import Missing, Stage, wait_for
from tests.fakes.running import running
from tests.mesh.cluster import Process
from tests.tools import find

MOST = 2.0  # ms from the Update frame to Applied
FEW, MANY = 10, 10_000
NODES = 200
GIVE_UP = 30.0  # seconds for one change
HTTP = Mesh(protocol="http")


class Quiet:
    """A refusal makes the run invalid, nothing else matters here."""

    def __init__(self) -> None:
        self.errors: list[str] = []

    def info(self, event: str, **fields: object) -> None:
        return None

    def error(self, event: str, **fields: object) -> None:
        self.errors.append(f"{event} {fields}")


@dataclass
class Steps:
    """Seconds, one of each per change."""

    fold: list[float] = field(default_factory=list)
    compile: list[float] = field(default_factory=list)  # the view included
    want: list[float] = field(default_factory=list)  # what differs, encoded
    proxy: list[float] = field(default_factory=list)  # Update sent -> Applied read
    whole: list[float] = field(default_factory=list)  # event in hand -> Applied known


def timed(link: Link) -> list[float]:
    """Seconds that each Update takes from here on."""
    took: list[float] = []
    update = link.update

    async def stand_between(number: int, text: bytes) -> Applied | Rejected:
        began = time.perf_counter()
        answer = await update(number, text)
        took.append(time.perf_counter() - began)
        return answer

    link.update = stand_between  # type: ignore[method-assign]  # the one way to stand between
    return took


class Host:
    """The control side of one host that calls `api`, without a registry: events are handed in."""

    def __init__(self, address: str, count: int) -> None:
        self._fold = Fold()
        self._endpoints = Endpoints(self._fold, time.monotonic)
        self._compiler = Compiler()
        self._address = address
        self._count = count
        self._index = 1
        self._ill: set[int] = set()
        self._versions: asyncio.Queue[int] = asyncio.Queue()
        self.log = Quiet()
        self.plane = Dataplane(self.log, self._versions.put_nowait)

    def list(self) -> None:
        """What a first listing brings."""
        self._fold.want(EVERYTHING)
        entries = tuple(entry(instance(number, "passing"), 1) for number in range(self._count))
        self._fold.apply(keys.SERVICES, Resync(1, entries), 0.0)
        leases = [Entry(key=keys.lease(node(number)), value=b"{}", version=1, created=1) for number in range(NODES)]
        self._fold.apply(keys.LEASES, Resync(1, tuple(leases)), 0.0)

    async def settle(self) -> None:
        """Push everything and wait until it is in force."""
        self.plane.want(self._index, self._compiler.compile(self._view()).resources)
        await self._in_force()

    async def change(self, number: int, steps: Steps) -> None:
        """Endpoint `number` gets worse, or better again."""
        self._index += 1
        self._ill ^= {number}
        health = "critical" if number in self._ill else "passing"
        event = Batch(self._index, (entry(instance(number, health), self._index),))
        began = time.perf_counter()
        self._endpoints.touch(self._fold.apply(keys.SERVICES, event, time.monotonic()).services)
        folded = time.perf_counter()
        list(self._endpoints.newcomers())
        resources = self._compiler.compile(self._view()).resources
        compiled = time.perf_counter()
        self.plane.want(self._index, resources)
        wanted = time.perf_counter()
        await self._in_force()
        steps.fold.append(folded - began)
        steps.compile.append(compiled - folded)
        steps.want.append(wanted - compiled)
        steps.whole.append(time.perf_counter() - began)

    async def _in_force(self) -> None:
        async with asyncio.timeout(GIVE_UP):
            while await self._versions.get() != self._index:
                pass

    def _view(self) -> HostView:
        upstreams = (Upstream(service="api", local_bind_port=9101),)
        web = Instance(service="web", node="a", id="web-1", address=self._address, port=9002, inbound=None,
                       mesh=Mesh(protocol="http", upstreams=upstreams))  # fmt: skip
        return HostView(
            node="a",
            trust_domain="mesh.local",
            inbound=Address(address=self._address, port=15443),
            loopback=self._address,
            local=(web,),
            endpoints=self._endpoints,
        )


def node(number: int) -> str:
    return f"n{number % NODES}"


def instance(number: int, health: str) -> Instance:
    address, inbound = f"10.0.{number >> 8}.{number & 255}", Address(address=f"10.1.0.{number % NODES}", port=15443)
    made = Instance(
        service="api", node=node(number), id=f"api-{number:05d}", address=address, port=8080, mesh=HTTP, inbound=inbound
    )
    return msgspec.structs.replace(made, health=health)


def entry(of: Instance, index: int) -> Entry:
    return Entry(key=keys.instance(of.service, of.node, of.id), value=values.write(of), version=index, created=1)


def measure(*, short: bool) -> Iterator[Row]:
    changes = 20 if short else 200
    few = _run(FEW, changes)
    many = _run(1_000 if short else MANY, changes)
    proxy, base = milliseconds(many.proxy), milliseconds(few.proxy)
    own = milliseconds([sum(parts) for parts in zip(many.fold, many.compile, many.want, strict=True)])
    parts = {name: round(median(getattr(many, name)) * 1000, 3) for name in ("fold", "compile", "want")}
    fields = {
        "endpoints": 1_000 if short else MANY, "changes": changes, "proxy_ms": proxy, "meshd_ms": own,
        "meshd_steps_median_ms": parts, "whole_ms": milliseconds(many.whole), "baseline_endpoints": FEW,
        "baseline_proxy_ms": base, "baseline_whole_ms": milliseconds(few.whole),
    }  # fmt: skip
    line = (
        f"one of {fields['endpoints']}: the proxy takes {proxy['median']} ms (p99 {proxy['p99']}; one of {FEW}: "
        f"{base['median']} ms), meshd before it {own['median']} ms"
    )
    yield Row("endpoints", fields, line, [] if short else [Bar("proxy ms", proxy["median"], MOST)])


def _run(count: int, changes: int) -> Steps:
    with Stage() as stage:
        try:
            return asyncio.run(_drive(stage, count, changes))
        except Exception as error:
            error.add_note(stage.logs())
            raise


async def _drive(stage: Stage, count: int, changes: int) -> Steps:
    steps, host = Steps(), Host(f"{stage.net}.1", count)
    async with _proxy(stage) as link, running(host.plane.run()):
        took = timed(link)
        host.list()
        host.plane.attach(link)
        await host.settle()
        chance = random.Random(4)
        for number in range(-5, changes):  # the first ones warm up
            if number == 0:
                took.clear()
                steps = Steps(proxy=took)
            await host.change(chance.randrange(count), steps)
    if host.log.errors:
        raise RuntimeError(f"the proxy refused: {host.log.errors[0]}")
    return steps


def _end(process: Process) -> None:
    process.end(2)


@asynccontextmanager
async def _proxy(stage: Stage) -> AsyncIterator[Link]:
    program = find("meshd-proxy")
    if program is None:
        raise Missing("meshd-proxy")
    run = stage.directory / "run"
    run.mkdir()
    command = [str(program), "run", "--run-dir", str(run), "--generation", "1", "--threads", "1"]
    process = Process("proxy", command, stage.directory / "proxy.log")
    stage.on_close(partial(_end, process))
    path = run / "proxy-1.sock"
    await asyncio.to_thread(wait_for, "the proxy's control socket", path.exists)
    link = await open_link(path)
    async with running(link.run()):
        yield link
        link.close()
