"""Containers register themselves: what their labels ask for is kept registered while they run.

`plan` decides from what runs and what is registered; `Containers` carries it out. Only registrations with our mark
in their meta are ever withdrawn. A Docker daemon that is away takes nobody out of traffic: a container leaves when
it is told to stop, or when its process has ended.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec

from meshd.config import Docker
from meshd.control.container import Container
from meshd.control.container_events import Away, Known, Message
from meshd.control.container_labels import HEALTHCHECK, OWNED, OWNER, Here, Trouble, read, refused_upstreams
from meshd.placed import ConfigError, Fault
from registry.api.agent import CheckState
from registry.api.registration import Registration
from registry.errors import RegistryError, Unavailable
from registry.model import Health, Instance

UNKNOWN = 60.0  # seconds that saved registrations outlive a daemon that never answered us


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...


class Registered(Protocol):
    """The part of the host's agent that is needed (`registry.api.agent.Agent`)."""

    async def register(self, registration: Registration, replace_checks: bool) -> int: ...

    async def deregister(self, instance_id: str) -> int: ...

    async def check_update(self, check_id: str, status: Health, output: str) -> int: ...

    def services(self) -> Mapping[str, Instance]: ...

    def checks(self) -> Mapping[str, CheckState]: ...


class Source(Protocol):
    """Where messages come from (`meshd.control.docker_engine.Engine`)."""

    def start(self) -> None: ...

    def refresh(self) -> None: ...

    async def close(self) -> None: ...


Open = Callable[[str, Callable[[Message], None]], Source]


class Wanted(msgspec.Struct, frozen=True):
    """Registrations by instance id, what HEALTHCHECKs say, and what is wrong with containers."""

    registrations: dict[str, Registration]
    troubles: tuple[Trouble, ...]
    health: dict[str, Health] = {}


class Plan(msgspec.Struct, frozen=True):
    """What to do, in this order; `taken`: ids that somebody else has registered."""

    deregister: tuple[str, ...]
    register: tuple[Registration, ...]
    taken: tuple[str, ...]


def own(instance: Instance) -> bool:
    return instance.meta.get(OWNER) == OWNED


def wanted(containers: tuple[Container, ...], here: Here) -> Wanted:
    """Of two containers that want one id, the first in the row has it."""
    found: dict[str, Registration] = {}
    holder: dict[str, str] = {}
    troubles: list[Trouble] = []
    health: dict[str, Health] = {}
    for container in containers:
        result = read(container, here)
        if isinstance(result, Trouble):
            troubles.append(result)
        elif result.id in found:
            error = f"{result.id} is container {holder[result.id]}'s already"
            troubles.append(Trouble(container.name, "meshd.id", error, "leave the label out, or give each its own"))
        else:
            found[result.id], holder[result.id] = result, container.name
            if container.health is not None:
                health[result.id] = container.health
            note = refused_upstreams(container)
            troubles += [note] if note is not None else []
    return Wanted(found, tuple(troubles), health)


def plan(
    registrations: Mapping[str, Registration], services: Mapping[str, Instance], done: Mapping[str, Registration]
) -> Plan:
    """`services`: what is registered on this host; `done`: what this process has registered, by instance id."""
    mine = {name for name, instance in services.items() if own(instance)}
    free = {name: one for name, one in registrations.items() if name not in services or name in mine}
    return Plan(
        deregister=tuple(sorted(mine - registrations.keys())),
        register=tuple(free[name] for name in sorted(free) if name not in services or done.get(name) != free[name]),
        taken=tuple(sorted(registrations.keys() - free.keys())),
    )


class Containers:
    """`problems` is what people should know; `on_change` is called when it differs. `clock` in seconds."""

    def __init__(
        self, settings: Docker, here: Here, registered: Registered, log: Log, clock: Callable[[], float]
    ) -> None:
        self._settings = settings
        self._here = here
        self._registered = registered
        self._log = log
        self._clock = clock
        self._known = Known()
        self._done: dict[str, Registration] = {}
        self._begun = clock()
        self._open: Open | None = None
        self.problems: tuple[str, ...] = ()
        self.on_change: Callable[[], None] = lambda: None

    def load(self, found: Callable[[], Open] | None = None) -> None:
        """Raises ConfigError when the `docker` package is wanted and missing."""
        if not self._settings.enabled:
            return
        try:
            self._open = (found or package)()
        except ImportError as error:
            hint = "install meshd with its extra: pip install 'meshd[docker]'"
            raise ConfigError(Fault("Docker.Enabled", f"the package docker is missing: {error}", hint)) from None

    async def run(self) -> None:
        """Follow Docker; without `Docker.Enabled`, withdraw what an earlier run registered, and return."""
        if self._open is None:
            await self._carry_out(plan({}, self._registered.services(), {}))
            return
        loop = asyncio.get_running_loop()
        queue: asyncio.Queue[Message] = asyncio.Queue()

        def post(message: Message) -> None:
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to hear it
                loop.call_soon_threadsafe(queue.put_nowait, message)

        source = self._open(self._settings.socket, post)
        source.start()
        try:
            await self._follow(source, queue)
        finally:
            await source.close()

    async def _follow(self, source: Source, queue: "asyncio.Queue[Message]") -> None:
        refresh = self._clock() + self._settings.interval
        while True:
            now = self._clock()
            if now >= refresh:
                source.refresh()
                refresh = now + self._settings.interval
            deadlines = [refresh, self._known.next_deadline(now)]
            if not self._known.listed and now < self._begun + UNKNOWN:
                deadlines.append(self._begun + UNKNOWN)
            wait = min(one for one in deadlines if one is not None) - now
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(max(0.0, wait)):
                    self._apply(await queue.get())
            while not queue.empty():
                self._apply(queue.get_nowait())
            await self._reconcile()

    def _apply(self, message: Message) -> None:
        if isinstance(message, Away) and not self._known.problem:
            self._log.warning("docker does not answer", socket=self._settings.socket, reason=message.reason)
        self._known.apply(message, self._clock())

    async def _reconcile(self) -> None:
        now = self._clock()
        if not self._known.listed and now < self._begun + UNKNOWN:
            self._tell(())  # nobody knows yet what runs
            return
        found = wanted(self._known.serving(now), self._here)
        todo = plan(found.registrations, self._registered.services(), self._done)
        refused = await self._carry_out(todo)
        await self._pass_on(found.health)
        taken = (Trouble(name, "meshd.id", "an instance of that id is registered already") for name in todo.taken)
        self._tell((*found.troubles, *refused, *taken))

    async def _carry_out(self, todo: Plan) -> tuple[Trouble, ...]:
        """Raises nothing: what the registry does not take now, the agent puts later by itself."""
        for name in todo.deregister:
            self._done.pop(name, None)
            with contextlib.suppress(RegistryError):
                await self._registered.deregister(name)
        refused: list[Trouble] = []
        for registration in todo.register:
            try:
                await self._registered.register(registration, True)
            except Unavailable as error:
                self._log.warning("registered here, put later", instance=registration.id, error=str(error))
            except RegistryError as error:
                refused.append(Trouble(registration.id, "meshd.service", str(error)))
                continue
            self._done[registration.id] = registration
        return tuple(refused)

    async def _pass_on(self, health: Mapping[str, Health]) -> None:
        """What HEALTHCHECKs say becomes the status of the checks that stand for them."""
        known = self._registered.checks()
        for instance_id, status in health.items():
            state = known.get(f"service:{instance_id}")
            if state is None or state.check.name != HEALTHCHECK or not own(state.instance):
                continue  # labels ask for another check
            if state.result.status != status:
                with contextlib.suppress(RegistryError):  # kept by the agent, and put later
                    await self._registered.check_update(state.check.check_id, status, f"{HEALTHCHECK}: {status}")

    def _tell(self, troubles: tuple[Trouble, ...]) -> None:
        told = [str(one) for one in sorted(set(troubles))]
        if self._known.problem:
            told.insert(0, f"docker ({self._settings.socket}) does not answer: {self._known.problem}")
        if tuple(told) == self.problems:
            return
        for one in told:
            if one not in self.problems and not one.startswith("docker ("):  # that was logged when it began
                self._log.warning("container", problem=one)
        self.problems = tuple(told)
        self.on_change()


def package() -> Open:
    """The thread over the `docker` package. Raises ImportError."""
    from meshd.control.docker_engine import Engine

    return Engine
