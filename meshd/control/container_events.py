"""What is known of this host's containers, moved by what Docker says. Pure: time comes in."""

import signal
from collections.abc import Iterable

import msgspec

from meshd.control.container import Container

LEAVING = 300.0  # seconds that a container which was told to stop is taken at its word while it still runs
STOPPING = frozenset((signal.SIGINT, signal.SIGQUIT, signal.SIGKILL, signal.SIGTERM))


class Listed(msgspec.Struct, frozen=True):
    """Every container with labels of ours that runs or is paused."""

    containers: tuple[Container, ...]


class Seen(msgspec.Struct, frozen=True):
    """One container as it is now."""

    container: Container


class Killed(msgspec.Struct, frozen=True):
    """A signal is sent to a container (`docker stop`: its stop signal). `at`: Unix time in nanoseconds."""

    id: str
    signal: str
    at: int


class Ended(msgspec.Struct, frozen=True):
    """A container's process has ended. `at` as above: a later run is not meant."""

    id: str
    at: int


class Away(msgspec.Struct, frozen=True):
    """The daemon does not answer; `ended`: containers whose process is gone all the same."""

    reason: str
    ended: frozenset[str] = frozenset()


Message = Listed | Seen | Killed | Ended | Away


class Known:
    """Containers of this host. `listed`: the daemon has answered once; `problem`: why it does not now."""

    def __init__(self) -> None:
        self._containers: dict[str, Container] = {}
        self._leaving: dict[str, tuple[int, float]] = {}  # id -> the run that was told to stop, and until when
        self.listed = False
        self.problem = ""

    def apply(self, message: Message, now: float) -> None:
        """`now`: seconds of a monotonic clock."""
        match message:
            case Listed(containers):
                self._containers = {one.id: one for one in containers}
                self._leaving = {name: one for name, one in self._leaving.items() if name in self._containers}
                self.listed, self.problem = True, ""
            case Seen(container):
                self._containers[container.id] = container
            case Killed(name, given, at):
                found = self._containers.get(name)
                if found is not None and found.started <= at and stops(given, found.stop_signal):
                    self._leaving[name] = (found.started, now + LEAVING)
            case Ended(name, at):
                found = self._containers.get(name)
                if found is not None and found.started <= at:
                    del self._containers[name]
            case Away(reason, ended):
                self.problem = reason
                self._drop(ended)

    def _drop(self, names: Iterable[str]) -> None:
        for name in names:
            self._containers.pop(name, None)

    def serving(self, now: float) -> tuple[Container, ...]:
        """Containers that run and were not told to stop, oldest first."""
        found = [one for one in self._containers.values() if one.running and not self._told(one, now)]
        return tuple(sorted(found, key=lambda one: (one.started, one.id)))

    def _told(self, container: Container, now: float) -> bool:
        started, until = self._leaving.get(container.id, (-1, 0.0))
        return started == container.started and now < until

    def next_deadline(self, now: float) -> float | None:
        """When a container that was told to stop and did not counts again."""
        return min((until for _, until in self._leaving.values() if until > now), default=None)


def stops(given: str, own: str) -> bool:
    """Does a container end by this signal? `own`: the stop signal that its image names. HUP by custom reloads."""
    sent = number(given)
    return sent in STOPPING or (sent != 0 and sent == number(own))


def number(text: str) -> int:
    """Of a signal as Docker writes it: `15`, `SIGTERM`, `TERM`, `RTMIN+3`; 0: no signal that we know."""
    name = text.upper().removeprefix("SIG")
    if name.isascii() and name.isdecimal():
        return int(name[:4])
    base, _, offset = name.partition("+")
    try:
        return signal.Signals[f"SIG{base}"] + int(offset or 0)
    except (KeyError, ValueError):
        return 0
