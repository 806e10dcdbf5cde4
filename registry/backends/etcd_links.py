"""Channels to the members of an etcd cluster: fail-over, TLS that is read anew, a frozen member noticed.

One channel per member, made when it is first asked. The member that answered last is asked first.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlsplit

import grpc
import grpc.aio
from google.protobuf.message import Message

from registry.backends import etcd_errors
from registry.errors import RegistryError, Unavailable
from registry.tls_files import NO_FILES, Files, advice

ANSWER = 5.0  # seconds for one member to answer one request
LARGEST = 512 << 20  # bytes of one answer: a listing has no pages here; gRPC's own 4 MiB is a few thousand keys
FIRST_PAUSE = 0.1  # seconds, doubled with each failure, then any part of it (full jitter)
LONGEST_PAUSE = 10.0
# A frozen server is noticed after keepalive + ping timeout, 8 s. etcd ends connections that ping more often than each
# 5 s (too_many_pings); without the ping timeout gRPC waits a minute for a ping to come back.
OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.keepalive_time_ms", 6000),
    ("grpc.keepalive_timeout_ms", 2000),
    ("grpc.http2.ping_timeout_ms", 2000),
    ("grpc.keepalive_permit_without_calls", 0),  # etcd takes none without a stream (the watch's is always there)
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 3000),  # also the time that one attempt to connect may take
    ("grpc.max_reconnect_backoff_ms", 3000),
    ("grpc.max_receive_message_length", LARGEST),
    ("grpc.max_send_message_length", LARGEST),
    ("grpc.enable_http_proxy", 0),  # http_proxy of the environment is not for the registry
    ("grpc.use_local_subchannel_pool", 1),  # a closed channel closes its connection, whoever else dials that member
)
LEADER = ("hasleader", "true")  # a member without a leader refuses at once instead of waiting for one

Answer = TypeVar("Answer", bound=Message)
Metadata = tuple[tuple[str, str], ...]


class Refused(Exception):
    """The token is not accepted (any more): log in and ask again."""

    def __init__(self, error: RegistryError) -> None:
        super().__init__(str(error))
        self.error = error


class TimedOut(Unavailable):
    """A member took the request and did not answer it in time."""


@dataclass(frozen=True)
class Tls:
    """PEM bytes; `roots` None: the system's; `certificate` and `key` None: the client shows none."""

    roots: bytes | None = None
    certificate: bytes | None = None
    key: bytes | None = None
    files: Files = NO_FILES  # where they are from


@dataclass(frozen=True)
class Backoff:
    """How to wait before the next try. `jitter` gives [0, 1): full, so that a fleet does not come back at once."""

    pause: Callable[[float], Awaitable[None]] = asyncio.sleep
    jitter: Callable[[], float] = random.random

    def after(self, failures: int) -> float:
        """Seconds after this many failures before the last one."""
        return self.jitter() * min(LONGEST_PAUSE, FIRST_PAUSE * float(1 << min(failures, 16)))


@dataclass(frozen=True)
class Method:
    """One RPC: its path and the message that answers."""

    path: str
    answer: Any
    safe: bool = False  # reads: asking another member after a lost answer does no harm
    led: bool = True  # False: a member without a leader answers too


class Links:
    """Requests to whichever member answers. `tls` gives what is on disk now (None: plaintext); it may block."""

    def __init__(self, addresses: Sequence[str], tls: Callable[[], Tls | None] = lambda: None) -> None:
        if not addresses:
            raise ValueError("a registry has at least one address")
        self._members = tuple(map(_target, addresses))
        self._tls = tls
        self._held: Tls | None = None
        self._read = False
        self._channels: dict[str, grpc.aio.Channel] = {}
        self._retired: list[grpc.aio.Channel] = []
        self._first = 0
        self.doubts = 0  # how often there was no answer: a token from before it may be of another store
        self.closed = False

    @property
    def member(self) -> str:
        """The address that is asked first."""
        return self._members[self._first]

    def next_member(self) -> None:
        """The first one has failed: ask another one first from now on."""
        self._first = (self._first + 1) % len(self._members)

    def doubt(self) -> None:
        """A request was not answered: every caller logs in before its next one.

        A wiped etcd does not refuse a token of the store before it: it waits until its own log is as long as that one's
        was when the token was made (the number behind the token's dot), for hours perhaps.
        """
        self.doubts += 1

    async def call(self, method: Method, request: Message, metadata: Metadata = ()) -> Any:
        """The answer of the first member that gives one. Raises Refused and the errors of `registry.errors`.

        A write goes to a further member only when it cannot have been applied by the one before.
        """
        reasons: list[str] = []
        late = False
        for _ in self._members:
            member = self.member
            try:
                return await self._ask(member, method, request, metadata)
            except grpc.aio.AioRpcError as error:
                code, details = error.code(), error.details() or ""
            what = f"{method.path.rpartition('/')[2]} at {member}"
            if etcd_errors.stale_token(code, details):
                raise Refused(etcd_errors.error_of(code, details, what))
            if not etcd_errors.retriable(code):
                raise etcd_errors.error_of(code, details, what)
            mended = advice(details, self._held.files) if self._held is not None else ""
            reasons.append(f"{member}: {mended} ({details})" if mended else f"{member}: {details or code.name}")
            late = late or code is grpc.StatusCode.DEADLINE_EXCEEDED
            if member == self.member:
                self.next_member()
            if not method.safe and not etcd_errors.untouched(code, details):
                raise _unanswered(late)(f"{what}: {reasons[-1]}; it may have been applied")
        raise _unanswered(late)(f"{method.path.rpartition('/')[2]}: {'; '.join(reasons)}")

    async def _ask(self, member: str, method: Method, request: Message, metadata: Metadata) -> Any:
        channel = await self.channel(member)
        rpc: Any = channel.unary_unary(
            method.path,
            request_serializer=type(request).SerializeToString,
            response_deserializer=method.answer.FromString,
        )
        return await rpc(request, timeout=ANSWER, metadata=(LEADER, *metadata) if method.led else metadata)

    async def stream(self, method: Method, metadata: Metadata = ()) -> Any:
        """A stream in both directions with the first member; the caller cancels it. Raises Unavailable."""
        channel = await self.channel(self.member)
        rpc: Any = channel.stream_stream(
            method.path,
            request_serializer=lambda message: message.SerializeToString(),
            response_deserializer=method.answer.FromString,
        )
        return rpc(metadata=(LEADER, *metadata))

    async def channel(self, member: str) -> grpc.aio.Channel:
        """Raises Unavailable once closed, or when the TLS files cannot be read."""
        if not self._read:
            await self.reload()
        if self.closed:
            raise Unavailable(f"{member}: the client is closed")
        channel = self._channels.get(member)
        if channel is None:
            channel = self._channels[member] = self._dial(member)
        return channel

    def _dial(self, member: str) -> grpc.aio.Channel:
        if self._held is None:
            return grpc.aio.insecure_channel(member, options=OPTIONS)
        credentials = grpc.ssl_channel_credentials(self._held.roots, self._held.key, self._held.certificate)
        return grpc.aio.secure_channel(member, credentials, options=OPTIONS)

    async def reload(self) -> bool:
        """Read the TLS files anew; True when they have changed: new requests use new connections.

        Raises Unavailable when they cannot be read for the first time; later the ones before stay in force.
        """
        try:
            found = await asyncio.to_thread(self._tls)
        except OSError as error:
            if self._read:
                return False
            raise Unavailable(f"TLS files of the registry: {error}") from error
        changed = self._read and found != self._held
        self._held, self._read = found, True
        if changed:
            self._retired.extend(self._channels.values())
            self._channels.clear()
        return changed

    async def retire(self) -> None:
        """Close the connections that a reload has replaced; requests on them have `ANSWER` seconds to end."""
        retired, self._retired = self._retired, []
        for channel in retired:
            await channel.close(ANSWER)

    async def close(self) -> None:
        """End all requests. Idempotent."""
        self.closed = True
        channels = [*self._channels.values(), *self._retired]
        self._channels.clear()
        self._retired.clear()
        for channel in channels:
            await channel.close()


def _unanswered(late: bool) -> type[Unavailable]:
    return TimedOut if late else Unavailable


def secure(addresses: Sequence[str]) -> bool:
    """Whether any address asks for TLS by itself."""
    return any(address.startswith("https://") for address in addresses)


def _target(address: str) -> str:
    """gRPC's name for `host:port`, `http://host:port` or `https://host:port`. Raises ValueError."""
    parts = urlsplit(address if "://" in address else f"//{address}")
    if parts.scheme not in ("", "http", "https") or not parts.hostname or parts.path.strip("/"):
        raise ValueError(f"{address!r}: host:port, http://host:port or https://host:port is wanted")
    host = f"[{parts.hostname}]" if ":" in parts.hostname else parts.hostname
    return f"{host}:{parts.port or 2379}"
