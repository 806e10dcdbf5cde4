"""The one thread that talks to Docker: lists, follows events, and says so to the event loop.

The package's calls block, and its event stream ends or hangs when the daemon restarts
(https://docker-py.readthedocs.io/en/stable/client.html#docker.client.DockerClient.events). So: list, then follow
from the time before the listing; when the stream ends, or `refresh` ends it, list again. Imported only when
`Docker.Enabled` is set.
"""

import asyncio
import socket
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any

import docker
import requests
from docker.errors import DockerException, NotFound

from meshd.control.container import SECOND, Container, inspected, ours
from meshd.control.container_events import Away, Ended, Killed, Listed, Message, Seen

CALL = 10.0  # seconds that one call to the daemon may take
PAUSE = (0.1, 2.0)  # seconds: first and longest wait for a daemon that does not answer
LOOK = ("start", "pause", "unpause", "rename", "update")
HEALTH = "health_status"  # of a HEALTHCHECK; the new status follows a colon
END = ("die", "stop", "destroy")

Post = Callable[[Message], None]


class Engine:
    """Build it, `start`, and `close` it at the end; `post` is called on the thread."""

    def __init__(self, path: str, post: Post) -> None:
        self._path = path
        self._post = post
        self._ending = Event()
        self._lock = Lock()  # over the stream and whether it shall end
        self._stream: Any = None
        self._cut = False
        self._runs: dict[str, tuple[int, int]] = {}  # container id -> process id and that process's start
        self._thread = Thread(target=self._main, name="docker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def refresh(self) -> None:
        """List again. Returns at once; ends the stream, also one that hangs."""
        with self._lock:
            self._cut = True
            if self._stream is not None:
                _shut(self._stream)

    async def close(self) -> None:
        """End the thread; a call that hangs is left to its own time limit."""
        self._ending.set()
        self.refresh()
        await asyncio.get_running_loop().run_in_executor(None, self._thread.join, 2.0)

    # ---- on the thread ------------------------------------------------------------------------------------------

    def _main(self) -> None:
        pause = PAUSE[0]
        while not self._ending.is_set():
            try:
                if self._follow():
                    pause = PAUSE[0]
                    continue
                self._ending.wait(PAUSE[0])  # the daemon ended the stream: it goes, or it is about to answer again
            except (DockerException, requests.RequestException, OSError, LookupError, TypeError, ValueError) as error:
                self._post(Away(reason(error), self._ended_processes()))
                self._ending.wait(pause)
                pause = min(PAUSE[1], pause * 2)

    def _follow(self) -> bool:
        """One listing and the events after it. True when `refresh` ended it."""
        with socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(CALL)
            probe.connect(self._path)  # first by itself: the package wraps a refusal, and leaks its socket
        client = docker.APIClient(base_url=f"unix://{self._path}", version="auto", timeout=CALL)
        try:
            with self._lock:
                self._cut = False
            since = int(time.time())  # the daemon is on this machine: one clock
            self._post(Listed(tuple(self._list(client))))
            stream = client.events(since=since, decode=True, filters={"type": "container"})
            with self._lock:
                self._stream = stream
                if self._cut or self._ending.is_set():
                    _shut(stream)
            for event in stream:
                self._event(client, event)
            return self._cut
        finally:
            with self._lock:
                self._stream = None
            client.close()

    def _list(self, client: Any) -> list[Container]:
        found: list[Container] = []
        for one in client.containers(all=False):
            if ours(one.get("Labels")):
                seen = self._inspect(client, one["Id"])
                if seen is not None:
                    found.append(seen)
        listed = {one.id for one in found}
        self._runs = {name: run for name, run in self._runs.items() if name in listed}
        return found

    def _inspect(self, client: Any, container_id: str) -> Container | None:
        try:
            found = inspected(client.inspect_container(container_id))
        except NotFound:
            return None
        self._runs[found.id] = (found.pid, process_start(found.pid))
        return found

    def _event(self, client: Any, event: Mapping[str, Any]) -> None:
        action, actor = str(event.get("Action", "")), event.get("Actor") or {}
        attributes = actor.get("Attributes") or {}
        container_id = str(actor.get("ID", ""))
        if not ours(attributes):
            return
        at = int(event.get("timeNano") or int(event.get("time", 0)) * SECOND)
        if action == "kill":
            self._post(Killed(container_id, str(attributes.get("signal", "")), at))
        elif action in END:
            self._post(Ended(container_id, at))
        elif action in LOOK or action.startswith(HEALTH):
            seen = self._inspect(client, container_id)
            self._post(Seen(seen) if seen is not None else Ended(container_id, at))

    def _ended_processes(self) -> frozenset[str]:
        """Containers whose process is gone, told without the daemon."""
        gone = {name for name, (pid, begun) in self._runs.items() if pid and begun and process_start(pid) != begun}
        return frozenset(gone)


def _shut(stream: Any) -> None:
    try:
        stream.close()
    except (OSError, AttributeError, DockerException):
        return  # it has ended by itself: the package finds no socket any more


def process_start(pid: int, proc: Path = Path("/proc")) -> int:
    """When a process began, in clock ticks since boot; 0: there is none (or it is in a namespace that we do not see).
    With the pid it names one process for ever. proc(5), `stat`, field 22."""
    try:
        text = (proc / str(pid) / "stat").read_text()
        rest = text.rpartition(")")[2].split()  # the name in parentheses may hold anything
        return 0 if rest[0] in "ZX" else int(rest[19])
    except (OSError, IndexError, ValueError):
        return 0


def reason(error: Exception) -> str:
    """In one line of a readable length."""
    text = getattr(error, "strerror", None) or str(error) or type(error).__name__
    return str(text).splitlines()[0][:200]
