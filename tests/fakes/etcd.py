"""An etcd in this process, as far as the client's parts need one: accounts and tokens, ranges, keep-alives, watches.

It keeps nothing: `kvs` and `revision` are what it answers; `created`, `canceled` and `progress` what it was asked.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import grpc.aio

from registry.backends.etcdpb import etcd_pb2 as pb

BAD_TOKEN = (grpc.StatusCode.UNAUTHENTICATED, "etcdserver: invalid auth token")
Context = Any  # grpc.aio's, whose stubs want a type of both messages


class FakeEtcd:
    """`accounts`: name to password; without one there is no authentication."""

    def __init__(self, **accounts: str) -> None:
        self.accounts = accounts
        self.address = ""
        self.kvs: list[pb.KeyValue] = []
        self.revision = 10
        self.tokens: list[str] = []  # that are valid
        self.certified = False  # a request without a token is of the client certificate's name, which may do nothing
        self.stuck: set[str] = set()  # tokens of a store before this one: with them nothing is answered
        self.logins = 0
        self.leases: set[int] = set()
        self.failing: tuple[grpc.StatusCode, str] | None = None
        self.led = True  # False: only serializable reads that ask for no leader are answered
        self.silent = False  # progress requests get no answer
        self.asked = 0
        self.created: list[pb.WatchCreateRequest] = []
        self.canceled: list[int] = []
        self.refuse = ""  # the reason with which creates are refused
        self._streams: list[asyncio.Queue[pb.WatchResponse | None]] = []

    # ---- what a test does --------------------------------------------------------------------------------------

    def say(self, answer: pb.WatchResponse) -> None:
        """On every open watch stream."""
        for stream in self._streams:
            stream.put_nowait(answer)

    def event(self, watch: int, key: str, value: str) -> None:
        """A put, told to one watch."""
        self.revision += 1
        kv = pb.KeyValue(key=key.encode(), value=value.encode(), mod_revision=self.revision, create_revision=1)
        header = pb.ResponseHeader(revision=self.revision)
        self.say(pb.WatchResponse(header=header, watch_id=watch, events=[pb.Event(kv=kv)]))

    def hang_up(self) -> None:
        """End every watch stream."""
        for stream in self._streams:
            stream.put_nowait(None)

    # ---- calls -------------------------------------------------------------------------------------------------

    async def _admit(self, context: Context, serializable: bool = False) -> None:
        if not self.led and not (serializable and "hasleader" not in dict(context.invocation_metadata())):
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
        if self.failing is not None:
            await context.abort(*self.failing)
        token = dict(context.invocation_metadata()).get("token")
        if token in self.stuck:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "")
        if self.accounts and token is None and self.certified:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "etcdserver: permission denied")
        if self.accounts and token not in self.tokens:
            await context.abort(*BAD_TOKEN)

    async def authenticate(self, request: pb.AuthenticateRequest, context: Context) -> pb.AuthenticateResponse:
        if not self.accounts:
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: authentication is not enabled")
        if self.accounts.get(request.name) != request.password:
            reason = "etcdserver: authentication failed, invalid user ID or password"
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, reason)
        self.logins += 1
        self.tokens.append(f"token-{self.logins}")
        return pb.AuthenticateResponse(token=self.tokens[-1])

    async def range(self, request: pb.RangeRequest, context: Context) -> pb.RangeResponse:
        self.asked += 1
        await self._admit(context, request.serializable)
        end = request.range_end or request.key + b"\0"
        found = [kv for kv in self.kvs if request.key <= kv.key < end]
        return pb.RangeResponse(header=pb.ResponseHeader(revision=self.revision), kvs=found, count=len(found))

    async def txn(self, request: pb.TxnRequest, context: Context) -> pb.TxnResponse:
        self.asked += 1
        await self._admit(context)
        return pb.TxnResponse(header=pb.ResponseHeader(revision=self.revision), succeeded=True)

    async def keep_alive(
        self, requests: AsyncIterator[pb.LeaseKeepAliveRequest], context: Context
    ) -> AsyncIterator[pb.LeaseKeepAliveResponse]:
        await self._admit(context)
        async for request in requests:
            yield pb.LeaseKeepAliveResponse(ID=request.ID, TTL=10 if request.ID in self.leases else 0)

    async def watch(self, requests: Any, context: Context) -> None:
        await self._admit(context)
        stream: asyncio.Queue[pb.WatchResponse | None] = asyncio.Queue()
        self._streams.append(stream)

        async def read() -> None:
            async for request in requests:
                self._asked(request, stream)

        async def write() -> None:
            while (answer := await stream.get()) is not None:
                await context.write(answer)

        reading = asyncio.ensure_future(read())  # noqa: TID251 - ends with the call below
        try:
            await write()
            await context.abort(grpc.StatusCode.UNAVAILABLE, "etcdserver: going away")
        finally:
            reading.cancel()
            self._streams.remove(stream)

    def _asked(self, request: pb.WatchRequest, stream: "asyncio.Queue[pb.WatchResponse | None]") -> None:
        header = pb.ResponseHeader(revision=self.revision)
        if request.HasField("create_request"):
            number = request.create_request.watch_id
            self.created.append(request.create_request)
            if self.refuse:
                answer = pb.WatchResponse(header=header, watch_id=-1, created=True, canceled=True)
                answer.cancel_reason = self.refuse
            else:
                answer = pb.WatchResponse(header=header, watch_id=number, created=True)
            stream.put_nowait(answer)
        elif request.HasField("cancel_request"):
            self.canceled.append(request.cancel_request.watch_id)
        elif not self.silent:
            stream.put_nowait(pb.WatchResponse(header=header, watch_id=-1))

    @asynccontextmanager
    async def serve(self, address: str = "127.0.0.1:0") -> AsyncIterator["FakeEtcd"]:
        server = grpc.aio.server()
        server.add_generic_rpc_handlers(self._handlers())
        port = server.add_insecure_port(address)
        self.address = f"127.0.0.1:{port}"
        await server.start()
        try:
            yield self
        finally:
            self.hang_up()
            await server.stop(None)

    def _handlers(self) -> tuple[grpc.GenericRpcHandler, ...]:
        def unary(call: Any, request: Any) -> Any:
            return grpc.unary_unary_rpc_method_handler(call, request.FromString, _bytes)

        def stream(call: Any, request: Any) -> Any:
            return grpc.stream_stream_rpc_method_handler(call, request.FromString, _bytes)

        services = {
            "Auth": {"Authenticate": unary(self.authenticate, pb.AuthenticateRequest)},
            "KV": {"Range": unary(self.range, pb.RangeRequest), "Txn": unary(self.txn, pb.TxnRequest)},
            "Lease": {"LeaseKeepAlive": stream(self.keep_alive, pb.LeaseKeepAliveRequest)},
            "Watch": {"Watch": stream(self.watch, pb.WatchRequest)},
        }
        return tuple(
            grpc.method_handlers_generic_handler(f"etcdserverpb.{name}", methods) for name, methods in services.items()
        )


def _bytes(message: Any) -> bytes:
    data: bytes = message.SerializeToString()
    return data
