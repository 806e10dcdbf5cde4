"""Runs the checks of local instances: HTTP, TCP, gRPC and TTL, each with interval, timeout and jitter.

HTTP: 2xx passes, 429 warns, all else is critical; redirects are not followed (a check's target is limited to the
host's own addresses and a redirect would lead elsewhere); the answer is cut at 4 KB. Only changes are reported.
"""

import asyncio
import os
import ssl
from collections.abc import Callable
from typing import Protocol

import aiohttp

from meshd.control import grpc_health
from meshd.control.threshold import Tally, step
from meshd.tasks import Restart, Tasks
from registry.model import Check, CheckResult, Health, InstanceKey

OUTPUT_LIMIT = 4096  # bytes, as in Consul
USER_AGENT = "meshd-health"


class Report(Protocol):
    """Called when a check's status changes, and for every result of a TTL check."""

    async def __call__(self, key: InstanceKey, result: CheckResult) -> None: ...


class Runner:
    """The checks of all local instances. `chance` in [0, 1) spreads first runs and intervals."""

    def __init__(self, tasks: Tasks, report: Report, chance: Callable[[], float]) -> None:
        self._tasks = tasks
        self._report = report
        self._chance = chance
        self._session: aiohttp.ClientSession | None = None
        self._running: dict[tuple[InstanceKey, str], tuple[Check, asyncio.Task[None]]] = {}
        self._beats: dict[tuple[InstanceKey, str], asyncio.Event] = {}

    def follow(self, key: InstanceKey, checks: tuple[Check, ...], results: tuple[CheckResult, ...]) -> None:
        """Run exactly these checks for an instance; unchanged ones go on undisturbed."""
        wanted = {check.check_id: check for check in checks}
        for (owner, check_id), (check, task) in list(self._running.items()):
            if owner == key and wanted.get(check_id) != check:
                task.cancel()
                del self._running[owner, check_id]
        known = {result.check_id: result.status for result in results}
        for check in checks:
            if (key, check.check_id) not in self._running:
                self._start(key, check, known.get(check.check_id, check.status))

    def forget(self, key: InstanceKey) -> None:
        self.follow(key, (), ())

    def beat(self, key: InstanceKey, check_id: str) -> None:
        """A TTL check has been updated: its time starts again."""
        event = self._beats.get((key, check_id))
        if event is not None:
            event.set()

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()
            self._session = None

    def _start(self, key: InstanceKey, check: Check, status: Health) -> None:
        async def run() -> None:
            await (self._expire(key, check) if check.ttl else self._probe(key, check, Tally(status)))

        task = self._tasks.start(f"check {key} {check.check_id}", run, restart=Restart(first=1.0))
        self._running[key, check.check_id] = (check, task)

    async def _probe(self, key: InstanceKey, check: Check, tally: Tally) -> None:
        # The first run comes soon, so that a registered service is used soon, but not all in one instant.
        await asyncio.sleep(min(check.interval, 0.25) * self._chance())
        while True:
            status, output = await self._result(check)
            following = step(check, tally, status)
            if following.status != tally.status or following.settled != tally.settled:
                await self._report(key, CheckResult(check_id=check.check_id, status=following.status, output=output))
            tally = following
            await asyncio.sleep(check.interval * (0.95 + 0.1 * self._chance()))

    async def _result(self, check: Check) -> tuple[Health, str]:
        try:
            async with asyncio.timeout(check.timeout):
                return await self._asked(check)
        except TimeoutError:
            return "critical", f"no answer within {check.timeout:g} s"
        except aiohttp.ClientConnectorError as error:
            return "critical", cut(f"{error.host}:{error.port}: {words(error.os_error)}")
        except (OSError, aiohttp.ClientError, ValueError) as error:
            return "critical", cut(str(error) or repr(error))

    async def _asked(self, check: Check) -> tuple[Health, str]:
        if check.http:
            return await self._http(check)
        if check.grpc:
            return await grpc_health.ask(check)
        return await _tcp(check)

    async def _http(self, check: Check) -> tuple[Health, str]:
        if self._session is None:
            # Each probe opens its own connection: a kept one would say nothing about accepting new ones.
            connector = aiohttp.TCPConnector(force_close=True, use_dns_cache=False)
            self._session = aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar())
        headers = [("User-Agent", USER_AGENT)] + [
            (name, value) for name, values in check.header.items() for value in values
        ]
        async with self._session.request(
            check.method, check.http, headers=headers, allow_redirects=False, ssl=not check.tls_skip_verify,
            server_hostname=check.tls_server_name or None,
        ) as answer:  # fmt: skip
            body = await answer.content.read(OUTPUT_LIMIT)
            output = cut(f"HTTP {check.method} {check.http}: {answer.status} {body.decode('utf-8', 'replace')}")
            return http_health(answer.status), output

    async def _expire(self, key: InstanceKey, check: Check) -> None:
        beat = asyncio.Event()
        self._beats[key, check.check_id] = beat
        try:
            while True:
                await self._wait(key, check, beat)
        finally:
            self._beats.pop((key, check.check_id), None)

    async def _wait(self, key: InstanceKey, check: Check, beat: asyncio.Event) -> None:
        try:
            async with asyncio.timeout(check.ttl):
                await beat.wait()
            beat.clear()
        except TimeoutError:
            late = CheckResult(check_id=check.check_id, status="critical", output=f"no update for {check.ttl:g} s")
            await self._report(key, late)
            await beat.wait()  # said once; the next update starts the clock again


async def _tcp(check: Check) -> tuple[Health, str]:
    host, _, port = check.tcp.rpartition(":")
    _, writer = await asyncio.open_connection(host.strip("[]"), int(port))
    writer.close()
    return "passing", f"TCP connect {check.tcp}: success"


def http_health(status: int) -> Health:
    if 200 <= status < 300:
        return "passing"
    return "warning" if status == 429 else "critical"


def cut(text: str) -> str:
    """At most 4 KB of UTF-8, never half a character."""
    return text.encode()[:OUTPUT_LIMIT].decode("utf-8", "ignore")


def words(error: OSError) -> str:
    """What the system calls it ("Connection refused"); asyncio's own text names only the address."""
    number = error.errno or 0
    return str(error) if number <= 0 or isinstance(error, ssl.SSLError) else os.strerror(number)
