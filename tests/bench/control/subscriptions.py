"""What a host pays for services that it does not call: the same host in meshes of 100, 1,000 and 10,000 services.

A real host calls 10 services of 10 endpoints each. Everything else in the mesh (services of 10 endpoints, and policy
for each of them) is only there. Measured at each size: bytes that the host receives from the store, by a relay between
them, to start and per change; its CPU per change; its memory. Half of the changes are of what it calls, half are not.
"""

import asyncio
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from registry import keys
from registry.model import Address, Instance, Mesh
from tests.bench import hosts, procfs
from tests.bench.control import stores
from tests.bench.control.relay import Relay
from tests.bench.control.result import Bar, Row
from tests.bench.control.writer import writer
from tests.bench.stage import Stage, wait_for
from tests.mesh.cluster import Host

SIZES = (100, 1_000, 10_000)
GROWTH = 5.0  # per cent between the smallest and the largest mesh, on etcd
CALLED = 10
INSTANCES = 10
NODES = 50
RATE = 20.0  # changes a second
SETTLE = 3.0  # seconds in which a host comes to rest, and in which its idle work is measured
FIRST_PORT = 9110


@dataclass(frozen=True)
class Cost:
    """Of one host: `start_kb` received until it has everything, `change_bytes` received and `change_cpu_ms` used per
    change of the mesh, beyond what it does at rest."""

    services: int
    start_kb: float
    change_bytes: float
    change_cpu_ms: float
    pss_mb: float


def measure(*, short: bool) -> Iterator[Row]:
    sizes = (20, 60) if short else SIZES
    for kind in ("etcd",) if short else stores.KINDS:
        yield _row(kind, [_one(kind, size, changes=20 if short else 200) for size in sizes], short=short)


def _row(kind: str, costs: Sequence[Cost], *, short: bool) -> Row:
    small, large = costs[0], costs[-1]
    growth = {
        name: round((getattr(large, name) / max(getattr(small, name), 1e-9) - 1) * 100, 2)
        for name in ("start_kb", "change_bytes", "change_cpu_ms", "pss_mb")
    }
    table = [
        {
            "services": one.services,
            "start_kb": round(one.start_kb, 1),
            "change_bytes": round(one.change_bytes, 1),
            "change_cpu_ms": round(one.change_cpu_ms, 3),
            "pss_mb": round(one.pss_mb, 1),
        }
        for one in costs
    ]
    fields = {"store": kind, "called": CALLED, "endpoints": INSTANCES, "costs": table, "growth_percent": growth}
    shown = ", ".join(f"{name} {value:+.1f} %" for name, value in growth.items())
    line = f"{kind}: from {small.services} to {large.services} services a host's costs grow by {shown}"
    bars = [] if short or kind != "etcd" else [Bar(f"{name} growth %", value, GROWTH) for name, value in growth.items()]
    return Row("subscriptions", fields, line, bars)


def _one(kind: str, size: int, *, changes: int) -> Cost:
    with stores.staged(kind) as (stage, server):
        asyncio.run(_fill(server, size))
        host, port = server.url.removeprefix("http://").rsplit(":", 1)
        relay = Relay(f"{stage.net}.99", (host, int(port)))
        threading.Thread(target=relay.run, daemon=True).start()
        stage.on_close(relay.end)
        relay.listening.wait(10)
        caller = _start(stage, server, relay)
        wait_for("all that is called is known", partial(_knows, caller), 60)
        time.sleep(SETTLE)
        return _changed(server, caller, relay, size, changes)


def _start(stage: Stage, server: stores.Server, relay: Relay) -> Host:
    """The authority on a host of its own (it keeps record of all policy), and the caller behind the relay."""
    mesh = hosts.cluster(stage)
    first = mesh.host("a", Roles=["ca"], Registry=server.settings)
    mesh.init_authority(first)
    first.start()
    upstreams = [{"Service": f"s{number}", "LocalBindPort": FIRST_PORT + number} for number in range(CALLED)]
    caller = mesh.join("b", ["web"], Registry={**server.settings, "Addresses": [f"http://{relay.address}"]})
    web = {"Name": "web", "ID": "web-1", "Address": caller.address, "Port": 9002}
    caller.register({**web, "Mesh": {"Protocol": "http", "Upstreams": upstreams}})
    return caller


def _knows(host: Host) -> bool:
    shown = host.meshctl("proxy", "config", "-o", "json").stdout
    return all(f'"s{number}/n' in shown for number in range(CALLED))


def _changed(server: stores.Server, host: Host, relay: Relay, size: int, changes: int) -> Cost:
    pids, start = hosts.control(host), relay.received / 1024
    idle_bytes, idle_cpu = relay.received, procfs.run_seconds(pids)
    time.sleep(SETTLE)
    idle_bytes, idle_cpu = relay.received - idle_bytes, procfs.run_seconds(pids) - idle_cpu
    received, used, began = relay.received, procfs.run_seconds(pids), time.monotonic()
    asyncio.run(_change(server, size, changes))
    time.sleep(1.0)  # what was changed last arrives
    rest = (time.monotonic() - began) / SETTLE
    return Cost(
        services=size,
        start_kb=start,
        change_bytes=max(0.0, relay.received - received - idle_bytes * rest) / changes,
        change_cpu_ms=max(0.0, procfs.run_seconds(pids) - used - idle_cpu * rest) / changes * 1000,
        pss_mb=procfs.pss_mb(pids),
    )


def instance(service: int, number: int, health: str = "passing") -> Instance:
    node = (service * INSTANCES + number) % NODES
    return Instance(
        service=f"s{service}",
        node=f"n{node}",
        id=f"s{service}-{number}",
        address=f"10.0.{node}.{number}",
        port=8080,
        mesh=Mesh(protocol="http"),
        inbound=Address(address=f"10.0.{node}.1", port=15443),
        health="critical" if health == "critical" else "passing",
    )


async def _fill(server: stores.Server, size: int) -> None:
    """Services, a document for each, and the leases of their hosts."""
    async with writer(server.kind, server.url) as into:
        await into.put_all([(keys.lease(f"n{node}"), b"{}") for node in range(NODES)])
        documents = [
            (keys.policy("service-intentions", f"s{one}"), b'{"Sources": [{"Name": "web", "Action": "allow"}]}')
            for one in range(size)
        ]
        await into.put_all(documents)
        await into.register_all([instance(one, number) for one in range(size) for number in range(INSTANCES)])


async def _change(server: stores.Server, size: int, changes: int) -> None:
    """In turn of an endpoint that the host calls, of one that it does not, and so with documents."""
    async with writer(server.kind, server.url) as into:
        began = time.monotonic()
        for number in range(changes):
            await asyncio.sleep(max(0.0, began + number / RATE - time.monotonic()))
            service = number % CALLED if number % 2 else CALLED + number % (size - CALLED)
            if number % 4 < 2:
                health = "critical" if number % 8 < 4 else "passing"
                await into.register_all([instance(service, number % INSTANCES, health)])
            else:
                key = keys.policy("service-intentions", f"s{service}")
                await into.put_all([(key, b'{"Sources": [{"Name": "web%d", "Action": "allow"}]}' % number)])
