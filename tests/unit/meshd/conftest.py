"""One host in this process: real store, authority, agent and listeners; only the proxy is a fake that behaves."""

import asyncio
import random
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest

from meshd.agent import Agent, Surroundings
from meshd.config import Host, load
from meshd.control.contact import Contact
from meshd.serve import Listeners, bind, publish_authority
from registry import keys
from registry.backends.sqlite import SqliteStore
from registry.ca.files import Layout
from registry.ca.init import First, init
from tests.fakes import proxy as fakes
from tests.fakes.proxy import FakeProxy


class Lines:
    """A log that remembers."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, dict[str, object]]] = []

    def bind(self, **fields: object) -> "Lines":
        return self

    def info(self, event: str, **fields: object) -> None:
        self.lines.append(("info", event, fields))

    def warning(self, event: str, **fields: object) -> None:
        self.lines.append(("warning", event, fields))

    def error(self, event: str, **fields: object) -> None:
        self.lines.append(("error", event, fields))

    def events(self) -> list[str]:
        return [event for _, event, _ in self.lines]

    def errors(self) -> list[str]:
        return [event for level, event, _ in self.lines if level == "error"]


async def until(what: str, probe: Callable[[], Any], seconds: float = 10.0) -> Any:
    """Wait in the loop until `probe()` is truthy, and return that."""
    end = time.monotonic() + seconds
    while not (found := probe()):
        assert time.monotonic() < end, what
        await asyncio.sleep(0.005)  # sleep: the pace of a wait with a deadline
    return found


def free_port(address: str) -> int:
    with socket.socket() as sock:
        sock.bind((address, 0))
        port: int = sock.getsockname()[1]
        return port


def settings(folder: Path, **more: str) -> list[str]:
    """Flags of a host with everything below `folder` and free ports."""
    address = f"127.{random.randint(16, 250)}.{random.randint(0, 250)}.1"
    ports = {f"Ports.{name}": str(free_port(address)) for name in ("Api", "Inbound", "Peer", "Admin")}
    basis = {
        "Node": "a",
        "DataDir": str(folder / "data"),
        "RunDir": str(folder / "run"),
        "Roles": "[registry, ca]",
        "Development": "true",
        "Loopback": address,
        "Bind.Inbound": address,
        "Bind.Peer": address,
        "Advertise.Address": address,
        "LeaseTTL": "10s",
        "DrainTimeout": "2s",
    }
    return [f"{name}={value}" for name, value in (basis | ports | more).items()]


class Single:
    """The host `a`, alone in its mesh."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self.log = Lines()
        self.proxy = FakeProxy(host.run)
        self.store = SqliteStore.open(host.data / "registry.sqlite")
        environ = {"MESHD_PROXY_BIN": str(fakes.script(host.data))}
        self.reread = lambda: host  # what SIGHUP finds
        around = Surroundings(
            self.log,  # type: ignore[arg-type] - a log that remembers
            environ,
            time.time,
            time.monotonic,
            random.random,
            Contact(),
            lambda: self.reread(),
        )
        self.agent = Agent(host, self.store, (f"{host.bind.peer}:{host.ports.peer}",), around)
        self.session = aiohttp.ClientSession()
        self._expiry: asyncio.Task[None] | None = None

    async def start(self) -> None:
        await self.proxy.start()
        self.agent.load()
        self.listeners = Listeners(self.agent, bind(self.host), None)
        await self.listeners.start()
        assert await publish_authority(self.store, Layout(self.host.data)) == ""
        self._expiry = asyncio.get_running_loop().create_task(self.store.run())
        self.agent.start()
        await until("ready", lambda: not self.agent.not_ready())

    async def stop(self) -> None:
        await self.agent.stop()
        await self.listeners.stop()
        await self.session.close()
        assert self._expiry is not None
        self._expiry.cancel()
        await asyncio.wait([self._expiry])
        await self.proxy.stop()
        await self.store.close()

    async def call(self, method: str, path: str, body: object = None, *, admin: bool = False) -> tuple[int, Any]:
        """Status and decoded body."""
        port = self.host.ports.admin if admin else self.host.ports.api
        data = body if isinstance(body, bytes) or body is None else msgspec.json.encode(body)
        async with self.session.request(method, f"http://{self.host.loopback}:{port}{path}", data=data) as answer:
            text = await answer.read()
            try:
                return answer.status, msgspec.json.decode(text)
            except msgspec.DecodeError:
                return answer.status, text

    async def register(self, **body: object) -> tuple[int, Any]:
        return await self.call("PUT", "/v1/agent/service/register", body)

    async def apply(self, text: str) -> tuple[int, Any]:
        return await self.call("POST", "/v1/mesh/apply", text.encode())

    async def follows(self, service: str) -> str:
        """Make this host a caller of the service; the selector that its endpoints are followed by."""
        upstream = {"Service": service, "LocalBindPort": free_port(self.host.loopback)}
        await self.register(Name="caller", ID=f"caller-of-{service}", Port=80, Mesh={"Upstreams": [upstream]})
        own, listed = f"{keys.SERVICES}{service}/", self.agent.fold.listed
        await until("followed", lambda: {own, keys.SERVICES} & listed)
        return own if own in listed else keys.SERVICES

    def held(self, name: str) -> Mapping[str, Any] | None:
        """A resource of the proxy, by `<kind>/<name>`."""
        found = self.proxy.holds.get(name)
        return found[1] if found is not None else None


@pytest.fixture
def short_tmp() -> Iterator[Path]:
    """A directory whose path leaves room for a unix socket's name."""
    with tempfile.TemporaryDirectory(prefix="m-") as folder:
        yield Path(folder)


@pytest.fixture
async def fresh(short_tmp: Path) -> AsyncIterator[Single]:
    """A host that is built and has an identity, but is not started."""
    host = load(None, {}, settings(short_tmp))
    init(host.data, First(host.node), time.time())
    host.run.mkdir(parents=True)
    made = Single(host)
    yield made
    if made._expiry is None:
        await made.session.close()
        await made.store.close()


@pytest.fixture
async def single(fresh: Single) -> AsyncIterator[Single]:
    await fresh.start()
    yield fresh
    await fresh.stop()


Wait = Callable[..., Awaitable[Any]]
