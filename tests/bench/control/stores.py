"""Real servers, and bare clients of them: what a store takes when nothing of ours is between."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import cycle, islice
from pathlib import Path
from signal import SIGTERM
from typing import Any, Protocol

import aiohttp
import grpc.aio

from registry.backends.consul import ConsulStore
from registry.backends.etcd import EtcdStore
from registry.backends.etcd_client import WATCH
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.store import SessionStore
from tests.bench.stage import Missing, Stage
from tests.consul_server import ConsulServer
from tests.etcd_server import Server as EtcdServer
from tests.etcd_server import etcd_server
from tests.tools import find

KINDS = ("etcd", "consul")
PUT = "/etcdserverpb.KV/Put"
GIVE_UP = 10.0  # seconds for one change


@dataclass(frozen=True)
class Server:
    """A running server. `settings`: the `Registry` section of a host; `pid` is asked each time: it may be restarted."""

    kind: str
    url: str
    settings: dict[str, Any]
    pid: Callable[[], int]
    stop: Callable[[], None]
    start: Callable[[], None]
    metric: Callable[[str], float]


def start(stage: Stage, kind: str) -> Server:
    """Raises Missing."""
    binary = find(kind)
    if binary is None:
        raise Missing(kind)
    return _etcd(stage, binary) if kind == "etcd" else _consul(stage)


def _etcd(stage: Stage, binary: Path) -> Server:
    server = etcd_server(binary, stage.directory / "etcd", host=f"{stage.net}.100")
    stage.on_close(server.stop)
    server.start()

    def pid() -> int:
        return server.process.pid if server.process is not None else 0

    return Server(
        kind="etcd",
        url=server.url,
        settings=server.settings(),
        pid=pid,
        stop=lambda: server.stop(SIGTERM),
        start=partial(_start, server),
        metric=server.metric,
    )


def _consul(stage: Stage) -> Server:
    server = ConsulServer(stage.directory / "consul", f"{stage.net}.100", acl=False, tls=False)
    stage.on_close(server.kill)
    server.start()

    def pid() -> int:
        return server.process.pid if server.process is not None else 0

    return Server(
        kind="consul",
        url=server.url,
        settings=server.settings(),
        pid=pid,
        stop=server.end,
        start=partial(_start, server),
        metric=lambda name: 0.0,
    )


def _start(server: EtcdServer | ConsulServer) -> None:
    server.start()


def open_store(kind: str, url: str) -> SessionStore:
    """The product's own client."""
    return EtcdStore([url.removeprefix("http://")]) if kind == "etcd" else ConsulStore([url])


# ---- bare clients ---------------------------------------------------------------------------------------------------


class Bare(Protocol):
    """`put` returns the store's index of the write where its answer says it, else 0."""

    async def put(self, key: str, value: bytes) -> int: ...

    def watch(self, key: str, seen: Callable[[float], None]) -> Any: ...


class BareEtcd:
    """gRPC's own calls, without any of the product's client."""

    def __init__(self, url: str) -> None:
        self._channel = grpc.aio.insecure_channel(url.removeprefix("http://"))
        self._put: Any = self._channel.unary_unary(
            PUT, request_serializer=pb.PutRequest.SerializeToString, response_deserializer=pb.PutResponse.FromString
        )
        self._watch: Any = self._channel.stream_stream(
            WATCH.path,
            request_serializer=pb.WatchRequest.SerializeToString,
            response_deserializer=pb.WatchResponse.FromString,
        )

    async def put(self, key: str, value: bytes) -> int:
        answer = await self._put(pb.PutRequest(key=key.encode(), value=value))
        return int(answer.header.revision)

    async def watch(self, key: str, seen: Callable[[float], None]) -> None:
        """Tells the time of each change of the key, until it is cancelled."""
        call = self._watch()
        try:
            await call.write(pb.WatchRequest(create_request=pb.WatchCreateRequest(key=key.encode())))
            while (answer := await call.read()) is not grpc.aio.EOF:
                if answer.events:
                    seen(time.perf_counter())
        finally:
            call.cancel()

    async def close(self) -> None:
        await self._channel.close()


class BareConsul:
    """One HTTP session and a loop of blocking queries."""

    def __init__(self, url: str) -> None:
        self._session = aiohttp.ClientSession(url)

    async def put(self, key: str, value: bytes) -> int:
        async with self._session.put(f"/v1/kv/{key}", data=value) as answer:
            if answer.status != 200 or (await answer.read()).strip() != b"true":
                raise RuntimeError(f"put of {key}: status {answer.status}")
        return 0

    async def watch(self, key: str, seen: Callable[[float], None]) -> None:
        """Tells the time of each change of the key, until it is cancelled."""
        index = "0"
        while True:
            params = {"index": index, "wait": "60s"}
            async with self._session.get(f"/v1/kv/{key}", params=params) as answer:
                await answer.read()
                found = answer.headers["X-Consul-Index"]
            if index != "0" and found != index:
                seen(time.perf_counter())
            index = found

    async def close(self) -> None:
        await self._session.close()


@asynccontextmanager
async def bare(kind: str, url: str) -> AsyncIterator[BareEtcd | BareConsul]:
    client: BareEtcd | BareConsul = BareEtcd(url) if kind == "etcd" else BareConsul(url)
    try:
        yield client
    finally:
        await client.close()


class Watched:
    """Times at which a bare client saw one key change."""

    def __init__(self) -> None:
        self.times: asyncio.Queue[float] = asyncio.Queue()

    async def next(self) -> float:
        async with asyncio.timeout(GIVE_UP):
            return await self.times.get()


@asynccontextmanager
async def watching(client: BareEtcd | BareConsul, key: str, values: Sequence[bytes]) -> AsyncIterator[Watched]:
    """The watch stands when the block begins. `values` are written in turn until it does."""
    watched = Watched()
    task = asyncio.get_running_loop().create_task(client.watch(key, watched.times.put_nowait))
    try:
        await _stand(client, key, watched, values)
        yield watched
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


async def _stand(client: BareEtcd | BareConsul, key: str, watched: Watched, values: Sequence[bytes]) -> None:
    """Write until the watch says so: then it stands. The last one written is the last of `values`."""
    for value in islice(cycle(values), 100):
        await client.put(key, value)
        with suppress(TimeoutError):
            async with asyncio.timeout(0.2):
                await watched.times.get()
                break
    if value != values[-1]:  # whoever writes another one first would else change nothing, and Consul tells of no change
        await client.put(key, values[-1])
        await watched.next()
    while not watched.times.empty():
        watched.times.get_nowait()


@contextmanager
def staged(kind: str) -> Iterator[tuple[Stage, Server]]:
    """A stage with a server of the kind; a failure carries the ends of all logs."""
    with Stage() as stage:
        try:
            yield stage, start(stage, kind)
        except Exception as error:
            error.add_note(stage.logs())
            raise
