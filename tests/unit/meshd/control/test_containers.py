"""From containers to registrations: the plan, and its carrying out over an agent and a source that behave."""

import asyncio
import subprocess
import sys
from collections.abc import Callable

import msgspec
import pytest

from meshd.config import Docker
from meshd.control.container import Container
from meshd.control.container_events import Away, Killed, Listed, Message
from meshd.control.container_labels import Here
from meshd.control.containers import UNKNOWN, Containers, Open, own, package, plan, wanted
from meshd.control.docker_engine import Engine
from meshd.placed import ConfigError
from registry.api.registration import Registration
from registry.catalog import KvCatalog
from registry.errors import Denied, Unavailable
from registry.model import Health
from tests.fakes.agent import FakeAgent
from tests.unit.meshd.conftest import until
from tests.unit.meshd.control.conftest import Clock, Lines

HERE = Here("127.0.0.1", frozenset())


def container(name: str, started: int = 1, **labels: str) -> Container:
    given = {"meshd.service": "web", "meshd.port": "80"} | {f"meshd.{key}": text for key, text in labels.items()}
    return Container(id=name * 12, name=name, started=started, labels=given, address="172.18.0.2")


def registrations(*containers: Container) -> dict[str, Registration]:
    return wanted(containers, HERE).registrations


class Agent(FakeAgent):
    """Refuses on request."""

    refuse: Exception | None = None

    async def register(self, registration: Registration, replace_checks: bool) -> int:
        if self.refuse is not None:
            raise self.refuse
        return await super().register(registration, replace_checks)


@pytest.fixture
def agent(catalog: KvCatalog) -> Agent:
    return Agent(catalog, "n1")


class Source:
    """Says what the test posts."""

    def __init__(self) -> None:
        self.post: Callable[[Message], None] = lambda message: None
        self.socket = ""
        self.started = self.closed = False
        self.refreshed = 0

    def open(self, socket: str, post: Callable[[Message], None]) -> "Source":
        self.socket, self.post = socket, post
        return self

    def start(self) -> None:
        self.started = True

    def refresh(self) -> None:
        self.refreshed += 1

    async def close(self) -> None:
        self.closed = True


class Bench:
    """Running `Containers`."""

    def __init__(self, agent: Agent, log: Lines, clock: Clock, interval: float = 30.0) -> None:
        self.source, self.agent, self.log, self.clock = Source(), agent, log, clock
        settings = Docker(enabled=True, socket="/d.sock", interval=interval)  # type: ignore[arg-type]  # Seconds is a float
        self.containers = Containers(settings, HERE, agent, log, clock)
        self.containers.load(lambda: self.source.open)
        self.changes = 0
        self.containers.on_change = self.changed

    def changed(self) -> None:
        self.changes += 1

    async def __aenter__(self) -> "Bench":
        self.task = asyncio.get_running_loop().create_task(self.containers.run())
        await until("started", lambda: self.source.started)
        return self

    async def __aexit__(self, *error: object) -> None:
        self.task.cancel()
        await asyncio.wait([self.task])
        assert self.source.closed
        assert self.task.cancelled()

    async def serves(self, *names: str) -> None:
        await until(f"serves {names}", lambda: sorted(self.agent.services()) == sorted(names))


# ---- deciding ------------------------------------------------------------------------------------------------------


async def test_the_plan_touches_only_what_is_ours(agent: Agent) -> None:
    mine = registrations(container("a"), container("b"))
    foreign = msgspec.structs.replace(mine["a"], id="foreign", meta={})
    for one in (*mine.values(), foreign):
        await agent.register(one, True)
    found = plan(registrations(container("b"), container("c"), container("foreign")), agent.services(), mine)
    assert found.deregister == ("a",)
    assert [one.id for one in found.register] == ["c"]
    assert found.taken == ("foreign",)
    assert [own(agent.services()[name]) for name in ("a", "foreign")] == [True, False]


async def test_what_an_earlier_process_registered_is_registered_again(agent: Agent) -> None:
    mine = registrations(container("a"))
    await agent.register(mine["a"], True)
    assert [one.id for one in plan(mine, agent.services(), {}).register] == ["a"]
    assert plan(mine, agent.services(), mine).register == ()
    changed = registrations(container("a", tags="v2"))
    assert [one.tags for one in plan(changed, agent.services(), mine).register] == [("v2",)]


def test_of_two_with_one_id_the_first_has_it() -> None:
    found = wanted((container("a", id="x"), container("b", id="x", port="81")), HERE)
    assert found.registrations["x"].port == 80
    assert "x is container a's already" in str(found.troubles[0])


# ---- doing ---------------------------------------------------------------------------------------------------------


async def test_containers_come_and_go(agent: Agent, log: Lines, clock: Clock) -> None:
    async with Bench(agent, log, clock) as bench:
        assert bench.source.socket == "/d.sock"
        bench.source.post(Listed((container("a"), container("b"))))
        await bench.serves("a", "b")
        bench.source.post(Killed("a" * 12, "15", 2))
        await bench.serves("b")
        bench.source.post(Listed(()))
        await bench.serves()


async def test_bad_labels_are_told_once_and_forgotten(agent: Agent, log: Lines, clock: Clock) -> None:
    async with Bench(agent, log, clock) as bench:
        bad = container("bad", port="x")
        for _ in range(2):
            bench.source.post(Listed((bad, container("good"))))
            await bench.serves("good")
        assert bench.containers.problems == ("container bad: meshd.port: 'x' is no port (1 to 65535)",)
        assert (log.events().count("container"), bench.changes) == (1, 1)
        bench.source.post(Listed((container("good"),)))
        await until("forgotten", lambda: bench.containers.problems == ())


async def test_who_may_not_serve_is_named_and_tried_again(agent: Agent, log: Lines, clock: Clock) -> None:
    agent.refuse = Denied("n1 is not entitled to serve web")
    async with Bench(agent, log, clock) as bench:
        bench.source.post(Listed((container("a"),)))
        await until("named", lambda: any("not entitled" in one for one in bench.containers.problems))
        agent.refuse = None
        bench.source.post(Listed((container("a"),)))
        await bench.serves("a")
        assert bench.containers.problems == ()


async def test_a_registry_that_is_away_is_the_agents_business(agent: Agent, log: Lines, clock: Clock) -> None:
    agent.refuse = Unavailable("down")
    async with Bench(agent, log, clock) as bench:
        bench.source.post(Listed((container("a"),)))
        await until("said", lambda: "registered here, put later" in log.events())
        assert bench.containers.problems == ()


async def test_what_a_healthcheck_says_moves_its_check_and_no_other(agent: Agent, log: Lines, clock: Clock) -> None:
    def seen(health: Health) -> Listed:
        return Listed((msgspec.structs.replace(container("a"), health=health),
                       msgspec.structs.replace(container("b", **{"check.ttl": "1h"}), health=health)))  # fmt: skip

    async with Bench(agent, log, clock) as bench:
        bench.source.post(seen("critical"))
        await until("both", lambda: set(agent.services()) == {"a", "b"})
        assert agent.services()["a"].health == "critical"
        bench.source.post(seen("passing"))
        await until("healthy", lambda: agent.services()["a"].health == "passing")
        assert agent.services()["b"].health == "critical", "the application reports that one itself"
        bench.source.post(seen("critical"))
        await until("unhealthy", lambda: agent.services()["a"].health == "critical")
        assert len(agent.registered) == 2, "health is no new registration"


async def test_a_daemon_that_goes_away_takes_nobody_with_it(agent: Agent, log: Lines, clock: Clock) -> None:
    async with Bench(agent, log, clock) as bench:
        bench.source.post(Listed((container("a"), container("b"))))
        await bench.serves("a", "b")
        for _ in range(2):
            bench.source.post(Away("Connection refused", frozenset({"b" * 12})))
        await bench.serves("a")
        assert bench.containers.problems == ("docker (/d.sock) does not answer: Connection refused",)
        assert log.events().count("docker does not answer") == 1


async def test_saved_registrations_wait_for_the_first_listing(agent: Agent, log: Lines, clock: Clock) -> None:
    await agent.register(registrations(container("a"))["a"], True)
    async with Bench(agent, log, clock) as bench:
        bench.source.post(Away("No such file or directory"))
        await until("said", lambda: bench.containers.problems)
        assert list(agent.services()) == ["a"]
        clock.now += UNKNOWN
        bench.source.post(Away("No such file or directory"))
        await bench.serves()


async def test_everything_is_listed_again_at_an_interval(agent: Agent, log: Lines) -> None:
    loop = asyncio.get_running_loop()
    async with Bench(agent, log, loop.time, interval=0.01) as bench:  # type: ignore[arg-type]  # a clock that runs
        await until("refreshed", lambda: bench.source.refreshed >= 3)


async def test_switched_off_withdraws_what_was_registered(agent: Agent, log: Lines, clock: Clock) -> None:
    mine = registrations(container("a"))["a"]
    await agent.register(mine, True)
    await agent.register(msgspec.structs.replace(mine, id="foreign", meta={}), True)
    containers = Containers(Docker(), HERE, agent, log, clock)
    containers.load()
    await containers.run()
    assert list(agent.services()) == ["foreign"]


def test_without_the_package_it_is_a_fault_of_the_configuration(agent: Agent, log: Lines, clock: Clock) -> None:
    def absent() -> Open:
        raise ImportError("No module named 'docker'")

    containers = Containers(Docker(enabled=True), HERE, agent, log, clock)
    with pytest.raises(ConfigError, match=r"Docker.Enabled.*meshd\[docker\]"):
        containers.load(absent)


def test_the_package_is_there() -> None:
    assert package() is Engine


def test_a_host_that_uses_neither_docker_nor_grpc_loads_neither() -> None:
    code = "import sys, meshd.main; print(*sorted({'docker', 'grpc', 'requests'} & sys.modules.keys()))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() in ([], ["requests"])  # python-consul2 brings requests
