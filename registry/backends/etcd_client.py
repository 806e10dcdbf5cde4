"""etcd's calls as the store needs them: with a token, which is renewed when it is refused."""

import asyncio
from collections.abc import Callable
from typing import Any

import grpc
import grpc.aio
from google.protobuf.message import Message

from registry.backends import etcd_errors
from registry.backends.etcd_links import ANSWER, Links, Metadata, Method, Refused, TimedOut
from registry.backends.etcd_login import Login
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied, NotFound, Unavailable

RANGE = Method("/etcdserverpb.KV/Range", pb.RangeResponse, safe=True)
STALE = Method("/etcdserverpb.KV/Range", pb.RangeResponse, safe=True, led=False)
READ = Method("/etcdserverpb.KV/Txn", pb.TxnResponse, safe=True)
TXN = Method("/etcdserverpb.KV/Txn", pb.TxnResponse)
COMPACT = Method("/etcdserverpb.KV/Compact", pb.CompactionResponse)
GRANT = Method("/etcdserverpb.Lease/LeaseGrant", pb.LeaseGrantResponse)
REVOKE = Method("/etcdserverpb.Lease/LeaseRevoke", pb.LeaseRevokeResponse)
TIME_TO_LIVE = Method("/etcdserverpb.Lease/LeaseTimeToLive", pb.LeaseTimeToLiveResponse, safe=True)
KEEP_ALIVE = Method("/etcdserverpb.Lease/LeaseKeepAlive", pb.LeaseKeepAliveResponse)
WATCH = Method("/etcdserverpb.Watch/Watch", pb.WatchResponse)


class Client:
    """One caller at one cluster. Errors are those of `registry.errors`."""

    def __init__(self, links: Links, secret: Callable[[], str | None]) -> None:
        self.links = links
        self.login = Login(links, secret)

    async def call(self, method: Method, request: Message) -> Any:
        metadata = await self.login.metadata()
        token = self.login.token
        try:
            return await self._ask(method, request, metadata)
        except Refused as refused:
            # refused before it was proposed: asking again cannot double anything
            if not await self.login.renew(token):
                raise refused.error from refused
        except Denied:
            # Accounts were switched on since we found none. A server that knows client certificates says no more than
            # this: without a token it takes the certificate's name for the caller's.
            if metadata or not await self.login.renew(None):
                raise
        try:
            return await self._ask(method, request, await self.login.metadata())
        except Refused as refused:
            raise refused.error from refused

    async def _ask(self, method: Method, request: Message, metadata: Metadata) -> Any:
        try:
            return await self.links.call(method, request, metadata)
        except TimedOut:
            self.links.doubt()
            if not (method.safe and metadata):
                raise
        return await self.links.call(method, request, await self.login.metadata())

    async def range(self, key: bytes, end: bytes = b"", **options: Any) -> pb.RangeResponse:
        """`end` empty: one key."""
        found: pb.RangeResponse = await self.call(RANGE, pb.RangeRequest(key=key, range_end=end, **options))
        return found

    async def keep_alive(self, lease: int) -> None:
        """Raises NotFound when the lease has ended."""
        metadata = await self.login.metadata()
        token = self.login.token
        try:
            answer = await self._beat(lease, metadata)
        except Refused as refused:
            if not await self.login.renew(token):
                raise refused.error from refused
            answer = await self._beat(lease, await self.login.metadata())
        if answer.TTL <= 0:
            raise NotFound(f"lease {lease:x} does not exist: it has expired, grant a new one")

    async def _beat(self, lease: int, metadata: Any) -> pb.LeaseKeepAliveResponse:
        member = self.links.member
        what = f"LeaseKeepAlive at {member}"
        call = await self.links.stream(KEEP_ALIVE, metadata)
        try:
            async with asyncio.timeout(ANSWER):
                await call.write(pb.LeaseKeepAliveRequest(ID=lease))
                answer = await call.read()
            if answer is not grpc.aio.EOF:
                beat: pb.LeaseKeepAliveResponse = answer
                return beat
            code, details = await call.code(), await call.details() or ""
        except grpc.aio.AioRpcError as error:
            code, details = error.code(), error.details() or ""
        except asyncio.InvalidStateError:  # ended before the request was written
            code, details = await call.code(), await call.details() or ""
        except TimeoutError as error:
            self.links.doubt()
            self._failed(member)
            raise Unavailable(f"{what}: no answer in time") from error
        finally:
            call.cancel()
        if etcd_errors.stale_token(code, details):
            raise Refused(etcd_errors.error_of(code, details, what))
        if etcd_errors.retriable(code):
            self._failed(member)
        raise etcd_errors.error_of(code, details, what)

    def _failed(self, member: str) -> None:
        if member == self.links.member:
            self.links.next_member()
