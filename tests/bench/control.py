"""How fast a key decides: `python -m tests.bench.control kv-to-request`.

An intention is switched between allow and deny by writing its key at the registry, while requests go from `web` (on
the registry's host) to `api` (on another). Each change is timed from the write being sent to the first request that
was sent after it and answered by the new rule. Beside it, in the same run and turn by turn, a bare put and a blocking
query that waits for it, over the same API: what the registry alone takes.
"""

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import aiohttp

from registry import keys
from tests.bench import hosts
from tests.bench.stage import Missing, Stage
from tests.load.connection import Broken, Connection
from tests.load.plan import Plan
from tests.load.report import percentile

# What the project promises: a key takes effect within this many bare put->watch times.
BAR = 5.0
GIVE_UP = 10.0  # seconds for one change
BARE_KEY = "bench/put-watch"  # outside the mesh's prefix: nothing but the waiting query cares
INTENTION = keys.policy("service-intentions", "api")


@dataclass(frozen=True)
class Probe:
    """Where the changes are written and where their effect shows."""

    session: aiohttp.ClientSession  # to the registry host's api.sock
    caller: Connection
    head: bytes

    async def put(self, key: str, value: bytes) -> None:
        async with self.session.put(f"/v1/kv/{key}", data=value) as answer:
            if answer.status != 200 or (await answer.read()).strip() != b"true":
                raise RuntimeError(f"put of {key}: status {answer.status}")

    async def change(self, action: str) -> float:
        """Seconds from the write being sent to the first request decided by it."""
        wanted = 200 if action == "allow" else 403
        began = time.perf_counter()
        ended, _ = await asyncio.gather(self._decided(wanted), self.put(INTENTION, document(action)))
        return ended - began

    async def _decided(self, wanted: int) -> float:
        async with asyncio.timeout(GIVE_UP):
            while True:
                try:
                    answer = await self.caller.get(self.head)
                except (Broken, OSError):
                    continue  # a denial may close the connection; the next request opens another
                if answer.status == wanted:
                    return time.perf_counter()

    async def bare(self, number: int) -> float:
        """Seconds from a put being sent to the answer of the blocking query that waited for it."""
        index = await self._index()
        waiting = asyncio.Event()
        ended = asyncio.gather(self._woken(index, waiting), self._put_when(waiting, number))
        woken, sent = await ended
        return woken - sent

    async def _index(self) -> str:
        async with self.session.get(f"/v1/kv/{BARE_KEY}") as answer:
            return answer.headers["X-Consul-Index"]

    async def _woken(self, index: str, waiting: asyncio.Event) -> float:
        params = {"index": index, "wait": "10s"}
        request = self.session.get(f"/v1/kv/{BARE_KEY}", params=params)
        waiting.set()
        async with request as answer:
            await answer.read()
            if answer.headers["X-Consul-Index"] == index:
                raise RuntimeError("the blocking query ended without the put that it waited for")
        return time.perf_counter()

    async def _put_when(self, waiting: asyncio.Event, number: int) -> float:
        await waiting.wait()
        await asyncio.sleep(0.02)  # the query is on its way: let it arrive, as a watch that stands would have
        sent = time.perf_counter()
        await self.put(BARE_KEY, str(number).encode())
        return sent


def document(action: str) -> bytes:
    return json.dumps({"Sources": [{"Name": "web", "Action": action}]}).encode()


def kv_to_request(changes: int) -> dict[str, object]:
    """Medians and 90th percentiles in milliseconds, and their ratio."""
    with Stage() as stage:
        try:
            mesh = hosts.start_pair(stage)
            return asyncio.run(_alternate(mesh.authority.socket, hosts.upstream_url(mesh.authority), changes))
        except Exception as error:
            error.add_note(stage.logs())
            raise


async def _alternate(socket: Path, url: str, changes: int) -> dict[str, object]:
    plan = Plan(url=url, count=1)
    base = aiohttp.ClientSession("http://localhost", connector=aiohttp.UnixConnector(str(socket)))
    effect, bare = [], []
    async with base as session:
        probe = Probe(session, Connection(plan.address), plan.head)
        await probe.put(BARE_KEY, b"first")
        for number in range(-2, changes):  # the first two warm up both ways
            action = "allow" if number % 2 else "deny"
            took, alone = await probe.change(action), await probe.bare(number)
            if number >= 0:
                effect.append(took * 1000)
                bare.append(alone * 1000)
        probe.caller.close()
    return {
        "name": "kv-to-request",
        "changes": changes,
        "median_ms": round(median(effect), 3),
        "p90_ms": round(percentile(sorted(effect), 90), 3),
        "bare_median_ms": round(median(bare), 3),
        "bare_p90_ms": round(percentile(sorted(bare), 90), 3),
        "ratio": round(median(effect) / median(bare), 2),
    }


MEASUREMENTS: Mapping[str, Callable[[int], dict[str, object]]] = {"kv-to-request": kv_to_request}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.bench.control", description="Time changes of the mesh.")
    parser.add_argument("name", choices=sorted(MEASUREMENTS))
    parser.add_argument("--changes", type=int, default=50)
    parser.add_argument("--check", action="store_true", help=f"exit 1 when the ratio is above {BAR:g}")
    args = parser.parse_args()
    try:
        result = MEASUREMENTS[args.name](args.changes)
    except Missing as missing:
        print(f"missing: {missing} (run `make tools`)", file=sys.stderr)
        return 78
    print(json.dumps(result))
    print(
        f"key written -> first request decided by it: median {result['median_ms']} ms; "
        f"bare put -> watch: median {result['bare_median_ms']} ms; ratio {result['ratio']} (bar {BAR:g})",
        file=sys.stderr,
    )
    return 1 if args.check and float(str(result["ratio"])) > BAR else 0


if __name__ == "__main__":
    sys.exit(main())
