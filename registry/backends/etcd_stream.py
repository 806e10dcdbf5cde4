"""The one stream that carries all watches of a store: opened again when it breaks, each watch at its next revision.

What etcd does that shapes this (seen on 3.4 and 3.7): a progress request is answered for the whole stream, and the
answer may overtake events, so it is a sign of life and no more; a refused create names no watch, so answers are matched
to creates in their order; a start revision of the future is accepted in silence; with an expired token an open stream
goes on but takes no further watch.
"""

import asyncio
import itertools
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import grpc
import grpc.aio

from registry.backends import etcd_errors
from registry.backends.etcd_client import WATCH, Client
from registry.backends.etcd_links import Backoff
from registry.backends.etcd_watch import EtcdWatch
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Denied, NotFound, RegistryError, Unavailable
from registry.race import first
from registry.store import Entry

SILENCE = 4.0  # seconds within which a progress request is answered; with the request's own delay below 10
PROGRESS = pb.WatchRequest(progress_request=pb.WatchProgressRequest())


@dataclass(frozen=True)
class End:
    """Why a stream ended. `renewed`: on purpose, nothing was lost."""

    reason: str
    renewed: bool = False


class Stream:
    """`run()` must be running, or no watch is fed. All calls come from one event loop."""

    def __init__(
        self, client: Client, backoff: Backoff, alive: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._client = client
        self._backoff = backoff
        self._alive = alive
        self._clock = clock
        self._ids = itertools.count(1)
        self._watches: dict[int, EtcdWatch] = {}
        self._outgoing: asyncio.Queue[pb.WatchRequest | None] | None = None  # None: there is no stream
        self._creating: deque[int] = deque()
        self._token: str | None = None
        self._heard = self._asked = 0.0
        self._confirmed = False
        self._anchor: Entry | None = None
        self._wanted = asyncio.Event()
        self._closed = False

    @property
    def held(self) -> int:
        """Watches that are fed now."""
        return len(self._watches)

    @property
    def newest(self) -> int:
        """The highest version that a watch was fed or has listed."""
        return self._anchor.version if self._anchor is not None else 0

    # ---- what a watch asks ------------------------------------------------------------------------------------------

    def add(self, watch: EtcdWatch) -> None:
        number = next(self._ids)
        self._watches[number] = watch
        self._wanted.set()
        if self._closed:
            watch.end()
        elif self._outgoing is not None and self._client.login.token != self._token:
            self._outgoing.put_nowait(None)  # the stream's token is not the one in force: it takes no further watch
        elif self._outgoing is not None:
            self._create(number, watch)

    def drop(self, watch: EtcdWatch) -> None:
        for number in [number for number, held in self._watches.items() if held is watch]:
            del self._watches[number]
            self._cancel(number)

    def saw(self, entry: Entry) -> None:
        if self._anchor is None or entry.version > self._anchor.version:
            self._anchor = entry

    def close(self) -> None:
        """End every watch."""
        self._closed = True
        self._wanted.set()
        if self._outgoing is not None:
            self._outgoing.put_nowait(None)
        for watch in list(self._watches.values()):
            watch.end()

    # ---- life -------------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Keep a stream open while there is a watch, until the store is closed."""
        failures = 0
        while not self._closed:
            if not self._watches:
                self._wanted.clear()
                await self._wanted.wait()
                continue
            if failures:
                await self._client.links.reload()
                if not await self._recognised():
                    failures += 1
                    await self._backoff.pause(self._backoff.after(failures - 1))
                    continue
            member = self._client.links.member
            end = await self._session()
            await self._client.links.retire()
            if end.renewed or self._closed:
                failures = 0
                continue
            failures = 1 if self._confirmed else failures + 1
            if not self._confirmed:
                self._client.links.doubt()
            if member == self._client.links.member:
                self._client.links.next_member()
            for watch in list(self._watches.values()):
                watch.lost(end.reason)
            await self._backoff.pause(self._backoff.after(failures - 1))

    async def _session(self) -> End:
        """One stream from its opening to its end."""
        self._confirmed = False
        call: Any = None
        try:
            metadata = await self._client.login.metadata()
            self._token = self._client.login.token
            where = self._client.links.member
            call = await self._client.links.stream(WATCH, metadata)
            return await self._converse(call, where)
        except Denied as error:
            for watch in list(self._watches.values()):
                self.drop(watch)
                watch.refused(str(error))
            return End(str(error))
        except RegistryError as error:
            return End(str(error))
        finally:
            self._outgoing = None
            self._creating.clear()
            if call is not None:
                call.cancel()

    async def _converse(self, call: Any, where: str) -> End:
        outgoing = self._outgoing = asyncio.Queue()
        self._heard = self._asked = self._clock()
        for number, watch in list(self._watches.items()):
            self._create(number, watch)
        try:
            return await first(lambda: self._write(call, outgoing), lambda: self._read(call))
        except (grpc.aio.AioRpcError, asyncio.InvalidStateError) as error:
            broken = error if isinstance(error, grpc.aio.AioRpcError) else None
        except asyncio.CancelledError:
            # gRPC says so too when its channel was closed under the call; that ends the stream, not who runs it
            if not self._closed or (task := asyncio.current_task()) is None or task.cancelling():
                raise
            return End("the store is closed", renewed=True)
        # a write to a stream that has ended says so without saying why
        code = broken.code() if broken is not None else await call.code()
        details = (broken.details() if broken is not None else await call.details()) or ""
        if etcd_errors.stale_token(code, details) and await self._client.login.renew(self._token):
            return End(details, renewed=self._confirmed)
        return End(f"watch at {where}: {details or code.name}")

    async def _write(self, call: Any, outgoing: "asyncio.Queue[pb.WatchRequest | None]") -> End:
        while True:
            try:
                async with asyncio.timeout(self._alive):
                    request = await outgoing.get()
            except TimeoutError:
                if self._asked > self._heard and self._clock() - self._asked > SILENCE:
                    return End(f"watch at {self._client.links.member}: no answer in {SILENCE:g} s")
                if await self._client.links.reload():
                    return End("TLS files have changed", renewed=True)
                request = PROGRESS
                if self._heard >= self._asked:
                    self._asked = self._clock()
            if request is None:
                return End("the token has changed", renewed=True)
            await call.write(request)

    async def _read(self, call: Any) -> End:
        while (answer := await call.read()) is not grpc.aio.EOF:
            self._heard = self._clock()
            self._receive(answer)
        code, details = await call.code(), await call.details()
        raise grpc.aio.AioRpcError(code, await call.initial_metadata(), await call.trailing_metadata(), details)

    def _create(self, number: int, watch: EtcdWatch) -> None:
        assert self._outgoing is not None
        key, end = watch.span
        create = pb.WatchCreateRequest(key=key, range_end=end, start_revision=watch.next, watch_id=number)
        self._creating.append(number)
        self._outgoing.put_nowait(pb.WatchRequest(create_request=create))

    def _receive(self, answer: pb.WatchResponse) -> None:
        self._confirmed = True
        if answer.created:
            self._created(self._creating.popleft(), answer)
        elif answer.canceled:
            self._canceled(answer.watch_id, answer)
        elif answer.events:
            watch = self._watches.get(answer.watch_id)
            if watch is not None:
                watch.take_in(answer.events)
        else:
            for watch in list(self._watches.values()):
                watch.alive()

    def _created(self, number: int, answer: pb.WatchResponse) -> None:
        watch = self._watches.get(number)
        if answer.canceled:
            self._canceled(number, answer)
        elif watch is None:
            return  # dropped meanwhile; its cancel is on the way
        elif answer.header.revision + 1 < watch.next:
            watch.restart()  # the store is younger than what we know of it: wiped, or restored from a backup
        else:
            watch.alive()

    def _canceled(self, number: int, answer: pb.WatchResponse) -> None:
        watch = self._watches.pop(number, None)
        if watch is None:
            return
        if answer.compact_revision:
            self._cancel(number)  # etcd 3.4 says that it is canceled, and keeps it
            watch.restart()
        else:
            watch.refused(answer.cancel_reason or "the server has ended the watch")

    def _cancel(self, number: int) -> None:
        if self._outgoing is not None:
            cancel = pb.WatchCancelRequest(watch_id=number)
            self._outgoing.put_nowait(pb.WatchRequest(cancel_request=cancel))

    async def _recognised(self) -> bool:
        """After a loss of contact: is it still the same store? A wiped one may have grown past our revisions.

        False: nobody answers, so the watches must not go on yet.
        """
        if self._anchor is None or not self._watches:
            return True
        try:
            same = await _holds(self._client, self._anchor)
        except Denied:
            return True  # what we may not read was seen with other rights: the watches will say
        except Unavailable:
            return False
        if not same:
            self._anchor = None
            for watch in list(self._watches.values()):
                watch.restart()
        return True


async def _holds(client: Client, seen: Entry) -> bool:
    """The store had this entry at its version. False also when that was so long ago that it cannot tell."""
    key = seen.key.encode()
    try:
        kvs = (await client.range(key, revision=seen.version)).kvs
    except NotFound:  # compacted (or of the future, then the key is not there at this version either)
        kvs = (await client.range(key)).kvs
    return any(kv.mod_revision == seen.version and kv.value == seen.value for kv in kvs)
