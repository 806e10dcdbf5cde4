"""A key written -> the first request decided by it.

A permission is switched between allow and deny by a bare put at the store, while requests go from `web` on one host to
`api` on another (`prober`). Timed is from the put being sent to the first request that was answered by the new rule.
In the same change a bare watch of the same key says when the store told of it; turn by turn, and with nothing else
going on, a bare put and watch of a key that nobody else follows. It is a permission of layer 7: a denial of a whole
caller also ends its connections, and the next request then pays for a TLS handshake, about a millisecond.
"""

import asyncio
import json
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from statistics import median

from registry import keys
from tests.bench.control import pair, stores
from tests.bench.control.fleet import Fleet
from tests.bench.control.prober import Prober, probing
from tests.bench.control.result import Bar, Row, milliseconds
from tests.bench.stage import Missing
from tests.load.plan import Plan
from tests.tools import find

RATIO = 1.5  # of the bare put -> watch, medians
P99 = {False: 20.0, True: 50.0}  # ms, alone and under load with the fleet attached
INTENTION = keys.policy("service-intentions", "api")
BARE_KEY = "bench/put-watch"  # outside the mesh's prefix: nobody else cares
HOSTS = 200


@dataclass
class Times:
    """Seconds, one of each per change."""

    effect: list[float] = field(default_factory=list)
    watch: list[float] = field(default_factory=list)  # the same change, seen by a bare watch
    bare: list[float] = field(default_factory=list)  # another key, nothing else going on
    request: list[float] = field(default_factory=list)  # one request of the probe


def measure(*, short: bool) -> Iterator[Row]:
    changes = 20 if short else 200
    yield _one("etcd", changes, hosts=0, load=False)
    if not short:
        yield _one("consul", changes, hosts=0, load=False)
        yield _one("etcd", changes, hosts=HOSTS, load=True)


def _one(kind: str, changes: int, *, hosts: int, load: bool) -> Row:
    with stores.staged(kind) as (stage, server), ExitStack() as around:
        mesh = pair.start(stage, server.settings)
        if hosts:
            around.enter_context(Fleet(stage, server, hosts)).ready()
        if load:
            around.enter_context(_loaded(pair.url(mesh, pair.BULK_PORT)))
        times = asyncio.run(_alternate(kind, server.url, pair.url(mesh, pair.API_PORT), changes))
        return _row(kind, times, hosts=hosts, load=load)


def _row(kind: str, times: Times, *, hosts: int, load: bool) -> Row:
    effect, bare = milliseconds(times.effect), milliseconds(times.bare)
    ratio = effect["median"] / bare["median"]
    behind = median(mine - told for mine, told in zip(times.effect, times.watch, strict=True)) * 1000
    fields = {
        "store": kind, "changes": len(times.effect), "hosts": hosts, "load": load, "effect_ms": effect,
        "bare_ms": bare, "same_change_watch_ms": milliseconds(times.watch), "request_ms": milliseconds(times.request),
        "behind_the_watch_ms": round(behind, 3), "ratio": round(ratio, 3),
    }  # fmt: skip
    where = f"{kind}{f', {hosts} hosts attached' if hosts else ''}{', under load' if load else ''}"
    line = (
        f"{where}: put -> first request decided {effect['median']} ms (p99 {effect['p99']}), bare put -> watch "
        f"{bare['median']} ms, same change seen by a bare watch {fields['same_change_watch_ms']['median']} ms"  # type: ignore[index]  # a dict of ours
    )
    bars = [Bar("p99 ms", effect["p99"], P99[load])] if kind == "etcd" else []
    return Row("propagation", fields, line, bars if load else [Bar("ratio", ratio, RATIO), *bars])


async def _alternate(kind: str, store: str, url: str, changes: int) -> Times:
    times, address = Times(), Plan(url=url, count=1).address
    async with stores.bare(kind, store) as client, stores.bare(kind, store) as ear:
        await client.put(BARE_KEY, b"first")
        async with (
            probing(address) as prober,
            stores.watching(ear, BARE_KEY, (b"a", b"b")) as apart,
            stores.watching(ear, INTENTION, (document("deny"), document("allow"))) as same,
        ):
            for number in range(-4, changes):  # the first ones warm up both ways
                action = "allow" if number % 2 else "deny"
                sent = time.perf_counter()
                bare, _ = await asyncio.gather(apart.next(), client.put(BARE_KEY, b"%d" % number))
                took = bare - sent
                effect, watch, request = await _change(prober, client, same, action)
                if number >= 0:
                    times.bare.append(took)
                    times.effect.append(effect)
                    times.watch.append(watch)
                    times.request += request
    return times


async def _change(
    prober: Prober, client: stores.Bare, watched: stores.Watched, action: str
) -> tuple[float, float, list[float]]:
    """Seconds to the first request decided, to the bare watch, and of each request meanwhile."""
    began = time.perf_counter()
    decided, seen, _ = await asyncio.gather(
        prober.until(200 if action == "allow" else 403), watched.next(), client.put(INTENTION, document(action))
    )
    return decided.at - began, seen - began, decided.requests


def document(action: str) -> bytes:
    permissions = [{"Action": action, "HTTP": {"PathPrefix": "/"}}]
    return json.dumps({"Sources": [{"Name": "web", "Permissions": permissions}]}).encode()


@contextmanager
def _loaded(url: str) -> Iterator[None]:
    """The load of `meshd-pair` beside it: as much as 16 connections carry. Raises RuntimeError for a failed request."""
    program = find("wrk")
    if program is None:
        raise Missing("wrk")
    wrk = subprocess.Popen([str(program), "-t1", "-c16", "-d600s", url], stdout=subprocess.DEVNULL)
    try:
        yield
        if wrk.poll() is not None:
            raise RuntimeError("the load ended early")
    finally:
        wrk.kill()
        wrk.wait()
