"""Drives a real `meshd-proxy` over its control socket, with hand-made resources and certificates.

    async with ProxyHarness() as p, Backend() as app:
        port = await p.upstream("api", app.address)          # plaintext endpoint behind an upstream listener
        async with Wire(port) as w:
            r = await w.ask(get("/x"))

    async with MeshPair() as m:                               # two proxies, mTLS between them, an echo app behind
        ...

`MESHD_PROXY_BIN` names the binary; without it the newer of target/release and target/debug runs.
"""

import asyncio
import json
import os
import shutil
import signal
import struct
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec

from policies import compiled as c
from tests.unit.proxy.certs import Authority, sni
from tests.unit.proxy.echo import Backend, Handler, echo, free_port
from tests.unit.proxy.wire import eventually

ROOT = Path(__file__).resolve().parents[3]
PATIENCE = 10.0
Resource = c.AnyResource


def binary() -> Path:
    """The proxy to test. Fails with what to do when there is none."""
    if given := os.environ.get("MESHD_PROXY_BIN"):
        return Path(given)
    built = [p for p in (ROOT / "target/release/meshd-proxy", ROOT / "target/debug/meshd-proxy") if p.exists()]
    if not built:
        raise FileNotFoundError(
            "no meshd-proxy: cargo build --manifest-path meshd/proxy/Cargo.toml, or set MESHD_PROXY_BIN"
        )
    return max(built, key=lambda p: p.stat().st_mtime)


def settings(node: str = "a", **changes: Any) -> c.Settings:
    """Settings without an inbound port and without an access log."""
    values: dict[str, Any] = {
        "node": node,
        "inbound_address": "127.0.0.1",
        "inbound_port": 0,
        "access_log": c.AccessLog(enabled=False),
        **changes,
    }
    return c.Settings(name="settings", **values)


def allow(service: str = "*", origin: str = "test/allow@1") -> c.Permissions:
    return c.Permissions(sources=(c.Source(name=service, origin=origin, action="allow"),))


class Rejected(Exception):
    def __init__(self, frame: c.Rejected) -> None:
        super().__init__(f"{frame.resource} {frame.path}: {frame.reason}")
        self.frame = frame


class Control:
    """One connection to a control socket, as meshd would hold it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.events: list[c.Event] = []
        self.stats: list[c.Stats] = []
        self.answers: list[c.FromProxy] = []
        self.hello: c.Hello | None = None
        self.closed = False
        self._news = asyncio.Condition()
        self._update = 0

    async def open(self) -> Self:
        self.reader, self.writer = await asyncio.open_unix_connection(str(self.path))
        self._task = asyncio.get_running_loop().create_task(self._read())
        await self.until(lambda: self.hello is not None)
        return self

    async def close(self) -> None:
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self.writer.close()

    async def _read(self) -> None:
        try:
            while True:
                size = struct.unpack(">I", await self.reader.readexactly(4))[0]
                frame = msgspec.json.decode(await self.reader.readexactly(size), type=c.FromProxy)
                async with self._news:
                    self._sort(frame)
                    self._news.notify_all()
        except (asyncio.IncompleteReadError, ConnectionError):
            async with self._news:
                self.closed = True
                self._news.notify_all()

    def _sort(self, frame: c.FromProxy) -> None:
        match frame:
            case c.Hello():
                self.hello = frame
            case c.Events():
                self.events.extend(frame.events)
            case c.Stats():
                self.stats.append(frame)
            case _:
                self.answers.append(frame)

    async def until(self, holds: Callable[[], bool], patience: float = PATIENCE) -> None:
        """Waits until something told by the proxy makes `holds` true."""
        async with asyncio.timeout(patience), self._news:
            await self._news.wait_for(holds)

    async def send(self, frame: c.ToProxy) -> None:
        await self.send_raw(msgspec.json.encode(frame))

    async def send_raw(self, frame: bytes) -> None:
        self.writer.write(struct.pack(">I", len(frame)) + frame)
        await self.writer.drain()

    async def update(self, *put: Resource, full: bool = False, delete: tuple[str, ...] = ()) -> int:
        """Sends an Update and waits for Applied; a refusal raises Rejected."""
        self._update += 1
        number = self._update
        await self.send(c.Update(update=number, full=full, put=put, delete=delete))
        return await self.applied(number)

    async def applied(self, number: int) -> int:
        def answer() -> list[c.FromProxy]:
            return [a for a in self.answers if isinstance(a, c.Applied | c.Rejected) and a.update == number]

        await self.until(lambda: bool(answer()))
        if isinstance(refused := answer()[0], c.Rejected):
            raise Rejected(refused)
        return number

    async def scrape(self) -> c.Stats:
        number = 1000 + len(self.stats)
        await self.send(c.Scrape(id=number))
        await self.until(lambda: any(s.id == number for s in self.stats))
        return next(s for s in self.stats if s.id == number)

    async def dump(self) -> list[dict[str, Any]]:
        await self.send(c.Dump(id=7))
        await self.until(lambda: any(isinstance(a, c.Config) for a in self.answers))
        config = next(a for a in self.answers if isinstance(a, c.Config))
        self.answers.remove(config)
        shown: list[dict[str, Any]] = json.loads(msgspec.json.encode(config.resources))
        return shown

    async def event(self, kind: str, **fields: str) -> c.Event:
        """Waits for an event of this kind with these fields."""

        def found() -> list[c.Event]:
            return [e for e in self.events if e.kind == kind and all(getattr(e, k) == v for k, v in fields.items())]

        await self.until(lambda: bool(found()))
        return found()[0]


class ProxyHarness:
    """One proxy process with its control connection. Everything is gone after `async with`."""

    def __init__(
        self, *, node: str = "a", threads: int = 1, authority: Authority | None = None, dial: bool = True
    ) -> None:
        self.node, self.threads, self.dial = node, threads, dial
        self.authority = authority or Authority()
        self.generation = 1

    async def __aenter__(self) -> Self:
        self.run_dir = Path(tempfile.mkdtemp(prefix="meshd-proxy-"))
        self.log = (self.run_dir / "stderr.log").open("wb")
        self.out = (self.run_dir / "stdout.log").open("wb")
        await self.start()
        return self

    async def start(self) -> None:
        """Starts the process (again)."""
        self.process = await asyncio.create_subprocess_exec(
            str(binary()), "run", "--run-dir", str(self.run_dir), "--generation", str(self.generation),
            "--threads", str(self.threads), stderr=self.log, stdout=self.out,
        )  # fmt: skip

        async def up() -> bool:
            return self.socket.exists() or self.process.returncode is not None

        await eventually(up)
        if self.dial:
            self.control = await Control(self.socket).open()

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if hasattr(self, "control"):
            await self.control.close()
        if self.process.returncode is None:
            self.process.kill()
        await self.process.wait()
        self.log.close()
        self.out.close()
        if kind is not None:
            print(f"--- proxy {self.node}\n" + self.stderr())
        shutil.rmtree(self.run_dir, ignore_errors=True)

    @property
    def socket(self) -> Path:
        return self.run_dir / f"proxy-{self.generation}.sock"

    def stderr(self) -> str:
        return (self.run_dir / "stderr.log").read_text(errors="replace")

    def stdout(self) -> str:
        return (self.run_dir / "stdout.log").read_text(errors="replace")

    def terminate(self) -> None:
        self.process.send_signal(signal.SIGTERM)

    async def update(self, *put: Resource, full: bool = False, delete: tuple[str, ...] = ()) -> int:
        return await self.control.update(*put, full=full, delete=delete)

    def listener(self, service: str, *, caller: str = "web", port: int = 0) -> c.Listener:
        instance = f"{caller}/{self.node}/{caller}-1"
        return c.Listener(
            name=f"{instance}:{service}",
            address="127.0.0.1",
            port=port or free_port(),
            instance=instance,
            service=service,
        )

    async def upstream(
        self,
        service: str,
        *addresses: str,
        protocol: str = "http",
        rule: c.Rule | None = None,
        faults: tuple[c.Fault, ...] = (),
        caller: str = "web",
        allow_plaintext: bool = True,
        **upstream: Any,
    ) -> int:
        """A service with plaintext endpoints, an upstream listener to it; returns the listener's port."""
        put: list[Resource] = [
            settings(self.node),
            c.Service(
                name=service,
                protocol=protocol,  # type: ignore[arg-type]  # any text, to see it refused too
                upstream=c.Upstream(allow_plaintext=allow_plaintext, **upstream),
            ),
        ]
        for i, address in enumerate(addresses):
            id_ = f"{service}-{i}"
            put.append(c.Endpoint(name=f"{service}/x/{id_}", id=id_, service=service, node="x", address=address))
        if rule is not None or faults:
            rules = (rule or c.Rule(origin="test/rule@1", legs=(c.Leg(service=service),)),)
            put.append(c.Routes(name=service, rules=rules, faults=faults))
        listener = self.listener(service, caller=caller)
        await self.update(*put, listener)
        await self.control.event("listener_bound", endpoint=listener.name)
        return listener.port


def rule(service: str = "api", *, retry: c.Retry | None = None, **fields: Any) -> c.Rule:
    """The last rule of a service: everything goes to it."""
    return c.Rule(origin="test/rule@1", legs=(c.Leg(service=service),), retry=retry or c.Retry(), **fields)


class MeshPair:
    """Caller's proxy a (`web`), callee's proxy b (`api`), mTLS between them, a backend behind b.

    `port` is where `web` reaches `api`.
    """

    def __init__(
        self,
        *,
        handler: Handler = echo,
        protocol: str = "http",
        permissions: c.Permissions | None = None,
        threads: int = 1,
        inbound: dict[str, Any] | None = None,
        rule: c.Rule | None = None,
    ) -> None:
        self.authority = Authority()
        self.a = ProxyHarness(node="a", authority=self.authority, threads=threads)
        self.b = ProxyHarness(node="b", authority=self.authority, threads=threads)
        self.app = Backend(handler)
        self.protocol, self.rule = protocol, rule
        self.permissions = permissions or allow("web")
        self.inbound_fields = inbound or {}
        self.inbound_port = free_port()
        self.name = "api/b/api-1"

    @property
    def spiffe(self) -> str:
        return self.authority.spiffe(self.name)

    def inbound(self, permissions: c.Permissions | None = None, **fields: Any) -> c.Inbound:
        values: dict[str, Any] = {"protocol": self.protocol, **self.inbound_fields, **fields}
        return c.Inbound(
            name=self.name,
            service="api",
            app=self.app.address,
            sni=sni(self.spiffe),
            permissions=permissions or self.permissions,
            **values,
        )

    def endpoint(self, **changes: Any) -> c.Endpoint:
        values: dict[str, Any] = {
            "inbound": f"127.0.0.1:{self.inbound_port}",
            "sni": sni(self.spiffe),
            "spiffe": self.spiffe,
            **changes,
        }
        return c.Endpoint(name=self.name, id="api-1", service="api", node="b", address=self.app.address, **values)

    async def __aenter__(self) -> Self:
        await self.app.__aenter__()
        await self.a.__aenter__()
        await self.b.__aenter__()
        await self.b.update(self.authority.trust())
        await self.b.update(
            settings("b", inbound_port=self.inbound_port, explain_denials=True),
            self.authority.identity(self.name),
            self.inbound(),
        )
        await self.b.control.event("listener_bound", endpoint="inbound")
        listener = self.a.listener("api")
        self.port = listener.port
        put: list[Resource] = [
            settings("a"),
            self.authority.identity("web/a/web-1"),
            c.Service(name="api", protocol=self.protocol),  # type: ignore[arg-type]  # any text, to see it refused too
            self.endpoint(),
            listener,
        ]
        if self.rule is not None:
            put.append(c.Routes(name="api", rules=(self.rule,)))
        await self.a.update(self.authority.trust())
        await self.a.update(*put)
        await self.a.control.event("listener_bound", endpoint=listener.name)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.a.__aexit__(kind, value, trace)
        await self.b.__aexit__(kind, value, trace)
        await self.app.__aexit__(kind, value, trace)
