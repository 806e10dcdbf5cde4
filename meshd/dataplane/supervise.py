"""Starts the proxy, watches it and dials it; a proxy that runs already is taken over, never replaced.

The proxy lives in a session of its own and nothing ties its life to ours: meshd may be killed, and the next one finds
`<RunDir>/proxy-<generation>.sock`. Both own and found processes are watched by pidfd, so there is one path.
"""

import asyncio
import contextlib
import os
import re
import select
import shutil
import signal
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import msgspec

from meshd.config import Host
from meshd.dataplane import frames
from meshd.dataplane.client import Dataplane
from meshd.dataplane.link import Link, open_link
from meshd.placed import ConfigError, Fault
from meshd.tasks import Restart, first
from policies.compiled import Drain, Events

SOCKET = re.compile(r"proxy-([0-9]+)\.sock\Z")
START_WITHIN = 10.0  # seconds from exec to the control socket
DIAL_EVERY = 0.02  # seconds between dials while a proxy starts
LOST_PAUSE = 0.2  # seconds before dialling a proxy again that closed the connection but lives


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class ProxyMissing(ConfigError):
    """There is no binary to start."""

    def __init__(self, why: str) -> None:
        super().__init__(Fault("Proxy.Binary", why))


class Running(msgspec.Struct, frozen=True):
    """A live proxy and our connection to it; `pidfd` is readable once it has ended."""

    link: Link
    generation: int
    pidfd: int


def binary(host: Host, environ: Mapping[str, str]) -> str:
    """MESHD_PROXY_BIN, then Proxy.Binary, then beside the running program, then PATH. Raises ProxyMissing."""
    named = environ.get("MESHD_PROXY_BIN") or host.proxy.binary
    if named:
        if os.access(named, os.X_OK):
            return named
        raise ProxyMissing(f"{named} cannot be executed")
    beside = Path(sys.executable).with_name("meshd-proxy")
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which("meshd-proxy", path=environ.get("PATH"))
    if found is None:
        raise ProxyMissing("meshd-proxy is not installed beside meshd nor in PATH; MESHD_PROXY_BIN names it")
    return found


def generations(run_dir: Path) -> list[int]:
    """Control sockets in the directory, newest first; a socket says nothing about a process behind it."""
    found = (SOCKET.match(entry.name) for entry in run_dir.iterdir()) if run_dir.is_dir() else iter(())
    return sorted((int(match[1]) for match in found if match), reverse=True)


class Supervisor:
    """Keeps `dataplane` attached to a proxy. `before_start` runs before each start (port checks; may raise)."""

    def __init__(
        self,
        host: Host,
        dataplane: Dataplane,
        log: Log,
        environ: Mapping[str, str],
        *,
        chance: Callable[[], float],
        before_start: Callable[[], None] = lambda: None,
    ) -> None:
        self._host = host
        self._dataplane = dataplane
        self._log = log
        self._environ = environ
        self._chance = chance
        self._before_start = before_start
        self._restart = Restart(first=0.1, limit=10.0)
        self._stopping = False
        self._served = False
        self.reattached = False
        self.running: Running | None = None
        self.restarts = 0
        self.on_events: Callable[[Events], None] = lambda events: None

    async def run(self) -> None:
        """Find or start, attach, wait for its end, and again with backoff."""
        crashes = 0
        clock = asyncio.get_running_loop().time
        while not self._stopping:
            began = clock()
            found = await self.find()
            self.reattached = found is not None
            running = found or await self._start()
            if running is not None:
                await self._attend(running)
            if self._stopping:
                return
            crashes = 0 if clock() - began > self._restart.limit else crashes + 1
            await asyncio.sleep(self._restart.delay(crashes - 1, self._chance()) if crashes else 0)

    async def find(self) -> Running | None:
        """The newest proxy of this RunDir that answers; older ones are told to drain, dead sockets removed."""
        found: Running | None = None
        for generation in generations(self._host.run):
            path = self._path(generation)
            try:
                link = await open_link(path)
                pidfd = os.pidfd_open(link.pid)
            except (ConnectionRefusedError, FileNotFoundError, ProcessLookupError):
                path.unlink(missing_ok=True)  # left behind by one that was killed
            except (OSError, frames.Broken) as error:
                self._log.error("proxy cannot be attached", generation=generation, error=str(error))
            else:
                if found is None:
                    found = Running(link, generation, pidfd)
                else:
                    await self._retire(link, pidfd)
        return found

    async def _retire(self, link: Link, pidfd: int) -> None:
        self._log.info("older proxy drains", pid=link.pid, generation=link.hello.generation)
        await link.drain(Drain(scope="proxy", seconds=float(self._host.drain_timeout)))
        link.close()
        os.close(pidfd)

    async def _start(self) -> Running | None:
        if not self._host.proxy.manage:
            await asyncio.sleep(LOST_PAUSE)
            return None
        try:
            self._before_start()
        except ConfigError as error:
            if not self._served:
                raise  # at the first start a taken port is a wrong configuration; later it may be free again soon
            self._log.error("proxy cannot start", error=str(error))
            return None
        generation = max(generations(self._host.run), default=0) + 1
        pid = self._spawn(generation)
        pidfd = os.pidfd_open(pid)
        self._log.info("proxy started", pid=pid, generation=generation)
        link = await self._dial(self._path(generation), pidfd)
        if link is None:
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
            await ended(pidfd)
            self._log.error("proxy did not start", pid=pid, exit=reap(pid))
            os.close(pidfd)
            return None
        return Running(link, generation, pidfd)

    def _spawn(self, generation: int) -> int:
        program = binary(self._host, self._environ)
        arguments = [program, "run", "--run-dir", self._host.run_dir, "--generation", str(generation)]
        if self._host.proxy.threads:
            arguments += ["--threads", str(self._host.proxy.threads)]
        null = (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0)
        # A session of its own: a signal to our terminal or process group is not one to the data path.
        return os.posix_spawn(program, arguments, dict(self._environ), file_actions=[null], setsid=True, setsigmask=[])

    async def _dial(self, path: Path, pidfd: int) -> Link | None:
        try:
            async with asyncio.timeout(START_WITHIN):
                while not exited(pidfd):
                    with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                        return await open_link(path)
                    await asyncio.sleep(DIAL_EVERY)
        except (TimeoutError, frames.Broken) as error:
            self._log.error("proxy does not speak", error=repr(error))
        return None

    async def _attend(self, running: Running) -> None:
        """Attached until the connection or the process ends."""
        link = running.link
        link.on_events = self._events
        self.running = running
        self._served = True
        self._log.info("proxy attached", pid=link.pid, generation=running.generation, holds=len(link.hello.holds))
        self._dataplane.attach(link)
        try:
            await first(link.run(), ended(running.pidfd))
        except frames.Broken as error:
            self._log.error("proxy broke the contract", pid=link.pid, error=str(error))
        finally:
            self._dataplane.detach()
            link.close()
            self.running = None
            # The connection may end a moment before the process does.
            if not exited(running.pidfd):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(LOST_PAUSE):
                        await ended(running.pidfd)
            if exited(running.pidfd):
                self._gone(running)
            os.close(running.pidfd)

    def _gone(self, running: Running) -> None:
        status = reap(running.link.pid)
        self._path(running.generation).unlink(missing_ok=True)
        if not self._stopping:
            self.restarts += 1
            self._log.error("proxy ended; its connections are lost", pid=running.link.pid, exit=status)

    def _events(self, events: Events) -> None:
        self.on_events(events)

    def _path(self, generation: int) -> Path:
        return self._host.run / f"proxy-{generation}.sock"

    async def drain(self, seconds: float) -> None:
        """Let the proxy finish within `seconds` and end; ends it the hard way after that. No restart follows."""
        self._stopping = True
        running = self.running
        if running is None or not self._host.proxy.manage:
            return
        pidfd = os.dup(running.pidfd)
        try:
            with contextlib.suppress(frames.Broken):
                await self._dataplane.drain(Drain(scope="proxy", seconds=seconds))
            for deadline, following in ((seconds + 1.0, signal.SIGTERM), (1.0, signal.SIGKILL), (2.0, None)):
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(deadline):
                        await ended(pidfd)
                        return
                if following is not None:
                    self._log.warning("proxy is late to end", pid=running.link.pid, signal=following.name)
                    with contextlib.suppress(ProcessLookupError):
                        signal.pidfd_send_signal(pidfd, following)
        finally:
            os.close(pidfd)


async def ended(pidfd: int) -> None:
    """Wait until the process behind a pidfd has ended."""
    loop = asyncio.get_running_loop()
    done = asyncio.Event()
    # A descriptor of its own: two waiters on one process must not share a reader.
    own = os.dup(pidfd)
    loop.add_reader(own, done.set)
    try:
        await done.wait()
    finally:
        loop.remove_reader(own)
        os.close(own)


def exited(pidfd: int) -> bool:
    """True once the process has ended (a zombie counts)."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(0))


def reap(pid: int) -> int | None:
    """Exit code of our child that has ended, -signal when killed; None when it is no child of ours."""
    try:
        found, status = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return None
    return os.waitstatus_to_exitcode(status) if found else None
