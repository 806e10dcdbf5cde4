"""A store over etcd's v3 API (3.4 and later): https://etcd.io/docs/v3.4/learning/api/

etcd_links   channels to the members, fail-over, TLS
etcd_login   tokens
etcd_client  calls, with a token that is renewed
etcd_errors  what refusals mean
etcd_cells   entries in etcd's keys, transactions, watch events
etcd_reads   with a leader, and without one
etcd_watch   one watch
etcd_together  single keys listed at the same moment, as few transactions
etcd_stream  the one stream that carries all of them

The index is etcd's revision. A write reads what it is about and is then one transaction guarded by what was read, so
that it is no write when nothing would change, and cannot double.
"""

import copy
import hashlib
import secrets
import time
from collections.abc import Callable, Sequence
from contextlib import aclosing, suppress

import msgspec

from registry import keys
from registry.backends import etcd_cells
from registry.backends.etcd_cells import BEHIND, Cell, Step, lease_name, lease_number
from registry.backends.etcd_client import COMPACT, GRANT, READ, REVOKE, TIME_TO_LIVE, TXN, Client
from registry.backends.etcd_links import Backoff, Links, Tls
from registry.backends.etcd_reads import Reads
from registry.backends.etcd_stream import Stream
from registry.backends.etcd_together import MOST, Together
from registry.backends.etcd_watch import EtcdWatch, Source, Span
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Conflict, Denied, NotFound, RegistryError, TooLarge, Unavailable
from registry.store import Batch, Behavior, Behind, Entry, Lease, Listing, Op, Resync

MAX_VALUE = 1 << 20  # bytes; etcd takes requests of 1.5 MiB
ENDLESS = 9_000_000_000  # seconds: the longest lease that etcd grants
TRIES = 32  # rounds of a write whose keys change between reading and writing
ALIVE = 4.0  # seconds between two questions whether the server is still there
NEVER = 2**62  # a revision that no key has
LAG = 4096  # keys that may wait for a slow watch before it starts over
LEASES = 1024  # granted here whose behavior is remembered
CALLERS = 64  # other callers whose log-ins are kept
BACKOFF = Backoff()


class Session(msgspec.Struct, frozen=True, omit_defaults=True):
    """What `sessions/<lease>` says, as JSON: etcd's leases have neither a name nor a choice of what their end does."""

    name: str = ""
    ttl: float = 0.0
    behavior: Behavior = "delete"


class EtcdStore:
    """A `registry.store.SessionStore`. `run()` feeds the watches and must be running; all else works without it.

    `addresses`: host:port or https://host:port. `token` gives `name:password` (or a token); both it and `tls` (None:
    plaintext) are asked again when they are needed and may block. `alive`: seconds between two signs of life.
    """

    max_value = MAX_VALUE
    max_watches: int | None = None  # all are on one stream

    def __init__(
        self,
        addresses: Sequence[str],
        *,
        token: Callable[[], str | None] = lambda: None,
        tls: Callable[[], Tls | None] = lambda: None,
        alive: float = ALIVE,
        lag: int = LAG,
        backoff: Backoff = BACKOFF,
    ) -> None:
        self._links = Links(addresses, tls)
        self._client = Client(self._links, token)
        self._stream = Stream(self._client, backoff, alive)
        self._reads = Reads(time.monotonic)
        self._backoff = backoff
        self._lag = lag
        self._behaviors: dict[str, Behavior] = {}
        self._callers: dict[bytes, Client] = {}
        self._together = Together(self._read)

    def acting_as(self, token: str) -> "EtcdStore":
        """The same connections as another caller, by its `name:password` and rights. Close only the original."""
        known = hashlib.sha256(token.encode()).digest()
        client = self._callers.pop(known, None) or Client(self._links, lambda: token)
        self._callers[known] = client  # the last one used stays longest: a log-in costs the server a tenth of a second
        while len(self._callers) > CALLERS:
            del self._callers[next(iter(self._callers))]
        other = copy.copy(self)
        other._client = client
        other._together = Together(other._read)
        return other

    async def run(self) -> None:
        """Feed the watches, until the store is closed."""
        await self._stream.run()

    @property
    def watching(self) -> int:
        """Watches that hold something at the server now."""
        return self._stream.held

    def behind(self) -> Behind:
        """Of the last read: without a leader, services, leases, nodes and status are read as one member knows them."""
        return self._reads.behind()

    # ---- reads --------------------------------------------------------------------------------------------------

    async def get(self, key: str) -> Entry | None:
        _check_key(key)
        found = etcd_cells.cells((await self._range(key, _span(key, True))).kvs).get(key)
        if found is not None and found.orphaned and await self._settle(found):
            found = (await self._cells([key])).get(key)
        return found.entry if found is not None else None

    async def list(self, prefix: str) -> Listing:
        listing, orphans = await self._listing(prefix)
        if orphans and any([await self._settle(cell) for cell in orphans]):
            listing, _ = await self._listing(prefix)
        return listing

    async def index(self, prefix: str, *, exact: bool = False) -> int:
        """The store's revision: etcd keeps none per prefix, so it may move without a change below the prefix."""
        key, end = _span(prefix, exact)
        return int((await self._client.range(key, end, count_only=True)).header.revision)

    async def wait_index(self, prefix: str, after: int, *, exact: bool = False) -> int:
        """Ends by a change below the prefix, and by no other."""
        now = await self.index(prefix, exact=exact)  # also whether this caller may read there
        if now < after:
            return now
        async with aclosing(self._watch(_span(prefix, exact), prefix, after)) as events:
            async for event in events:
                if isinstance(event, Batch | Resync):
                    return event.index
        raise Unavailable(f"{prefix}: the store is closed")

    async def leases(self) -> tuple[Lease, ...]:
        """Those that were granted through a store of ours."""
        found = (await self._client.range(*_span(keys.SESSIONS, False))).kvs
        leases = []
        for kv in found:
            said = _session(kv.value)
            name = kv.key.decode(errors="replace").removeprefix(keys.SESSIONS)
            leases.append(
                Lease(id=name, name=said.name, ttl=said.ttl, behavior=said.behavior, created=kv.create_revision)
            )
        return tuple(sorted(leases, key=lambda lease: (lease.created, lease.id)))

    # ---- writes -------------------------------------------------------------------------------------------------

    async def put(
        self, key: str, value: bytes, *, expect: int | None = None, lease: str | None = None, flags: int = 0
    ) -> int:
        return await self.transact([Op(key=key, value=value, expect=expect, lease=lease, flags=flags)])

    async def delete(self, key: str, *, expect: int | None = None) -> int:
        return await self.transact([Op(key=key, value=None, expect=expect)])

    async def transact(self, ops: Sequence[Op]) -> int:
        """128 keys at most, and 1.5 MiB."""
        if not ops:
            return await self.index("")
        for op in ops:
            _check(op)
        behaviors = {lease: await self._behavior(lease) for lease in {op.lease for op in ops if op.lease}}
        names = list(dict.fromkeys(op.key for op in ops))
        for _ in range(TRIES):
            known, revision = await self._read(names)
            step = etcd_cells.decide(ops, known, behaviors)
            if not step.ops:
                return step.standing or revision
            written = await self._commit(step)
            if written is not None:
                return written
        raise _contended(names)

    async def acquire(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        op = Op(key=key, value=value, lease=lease, flags=flags)
        _check(op)
        behaviors = {lease: await self._behavior(lease)}
        for _ in range(TRIES):
            known = await self._cells([key])
            held = known.get(key)
            if held is not None and held.entry.lease not in (None, lease):
                return False
            step = etcd_cells.decide([op], known, behaviors)
            if not step.ops or await self._commit(step) is not None:
                return True
        raise _contended([key])

    async def release(self, key: str, value: bytes, lease: str, *, flags: int = 0) -> bool:
        op = Op(key=key, value=value, flags=flags)
        _check(op)
        for _ in range(TRIES):
            held = (await self._cells([key])).get(key)
            if held is None or held.entry.lease is None or held.entry.lease != lease:
                return False
            if await self._commit(etcd_cells.release(op, held)) is not None:
                return True
        raise _contended([key])

    async def may_write(self, key: str) -> None:
        """Raises Denied when this caller may not; writes nothing, since the condition never holds."""
        put = pb.RequestOp(request_put=pb.PutRequest(key=key.encode()))
        never = pb.Compare(target=pb.Compare.MOD, result=pb.Compare.EQUAL, key=key.encode(), mod_revision=NEVER)
        await self._client.call(TXN, pb.TxnRequest(compare=[never], success=[put]))

    # ---- leases -------------------------------------------------------------------------------------------------

    async def grant(self, ttl: float, *, name: str = "", behavior: Behavior = "delete") -> str:
        """Whole seconds, rounded up; a server takes none below its election timeout and a half (2 s). 0: no end."""
        if not 0 <= ttl <= ENDLESS:
            raise TooLarge(f"lease {name}: ttl {ttl} s is not between 0 and {ENDLESS}")
        number = secrets.randbits(62) + 1  # chosen here: a grant whose answer is lost can still be revoked
        seconds = -int(-ttl // 1) if ttl else ENDLESS
        lease = lease_name(number)
        try:
            await self._client.call(GRANT, pb.LeaseGrantRequest(TTL=seconds, ID=number))
            await self._describe(lease, Session(name, ttl, behavior))
        except BaseException:
            self._behaviors.pop(lease, None)
            raise
        return lease

    async def _describe(self, lease: str, session: Session) -> None:
        op = Op(key=keys.SESSIONS + lease, value=msgspec.json.encode(session), lease=lease)
        self._behaviors[lease] = "delete"  # of the description itself
        while len(self._behaviors) > LEASES:
            del self._behaviors[next(iter(self._behaviors))]
        try:
            await self.transact([op])
        except Denied:
            if session.behavior != "delete":
                raise
            # the name is for people to see; a caller who may not write it still gets its lease
        self._behaviors[lease] = session.behavior

    async def renew(self, lease: str) -> None:
        number = lease_number(lease)
        if number is None:
            raise NotFound(f"lease {lease} is none of etcd's")
        await self._client.keep_alive(number)

    async def revoke(self, lease: str) -> None:
        """Ending an unknown lease is no error."""
        number = lease_number(lease)
        if number is None:
            return
        if await self._behavior(lease) == "release":
            await self._let_go(number)
        with suppress(NotFound):
            await self._client.call(REVOKE, pb.LeaseRevokeRequest(ID=number))
        self._behaviors.pop(lease, None)

    async def _let_go(self, number: int) -> None:
        """Release the keys of a lease that does not take them along."""
        answer = await self._client.call(TIME_TO_LIVE, pb.LeaseTimeToLiveRequest(ID=number, keys=True))
        names = [name for key in answer.keys if (name := etcd_cells.name_of(key.rstrip(etcd_cells.MARK)))]
        for name in names:
            held = (await self._cells([name])).get(name)
            if held is not None and held.releasing and held.entry.lease == lease_name(number):
                op = Op(key=name, value=held.entry.value, flags=held.entry.flags)
                await self._commit(etcd_cells.release(op, held))  # lost: somebody else has written it meanwhile

    async def _behavior(self, lease: str) -> Behavior:
        known = self._behaviors.get(lease)
        if known is not None:
            return known
        if lease_number(lease) is None:
            raise NotFound(f"lease {lease} is none of etcd's")
        try:
            found = (await self._client.range((keys.SESSIONS + lease).encode())).kvs
        except Denied:
            return "delete"  # who locks with leases of others needs to read `sessions/`; meshd does not
        return _session(found[0].value).behavior if found else "delete"

    # ---- watches ------------------------------------------------------------------------------------------------

    def watch(self, selector: str, *, after: int | None = None) -> EtcdWatch:
        return self._watch(_span(selector, keys.is_key(selector)), selector, after)

    def _watch(self, span: Span, selector: str, after: int | None) -> EtcdWatch:
        async def listing() -> Listing:
            return await (self._one(selector) if keys.is_key(selector) else self.list(selector))

        return EtcdWatch(self._stream, Source(span, listing, self._settled, self._backoff, self._lag), after)

    async def _one(self, key: str) -> Listing:
        """One key as a listing, asked together with others that are listed at the same moment."""
        cell, revision = await self._together.read(key)
        if cell is not None and cell.orphaned and await self._settle(cell):
            cell, revision = await self._together.read(key)
        return Listing((cell.entry,) if cell is not None else (), revision)

    async def compact(self, revision: int) -> None:
        """Forget the history before a revision. Raises NotFound when that is done already."""
        await self._client.call(COMPACT, pb.CompactionRequest(revision=revision, physical=True))

    async def close(self) -> None:
        """End all requests and watches. Idempotent."""
        self._stream.close()
        await self._links.close()

    # ---- parts --------------------------------------------------------------------------------------------------

    async def _cells(self, names: Sequence[str]) -> dict[str, Cell]:
        return (await self._read(names))[0]

    async def _read(self, names: Sequence[str]) -> tuple[dict[str, Cell], int]:
        """The keys of one moment, and its revision."""
        if len(names) == 1:
            one = await self._client.range(*_span(names[0], True))
            return etcd_cells.cells(one.kvs), one.header.revision
        if len(names) > MOST:
            raise TooLarge(f"{names[0]}: a transaction of {len(names)} keys, {MOST} at most")
        ranges = [pb.RangeRequest(key=key, range_end=end) for key, end in (_span(name, True) for name in names)]
        request = pb.TxnRequest(success=[pb.RequestOp(request_range=part) for part in ranges])
        answer: pb.TxnResponse = await self._client.call(READ, request)
        kvs = [kv for response in answer.responses for kv in response.response_range.kvs]
        return etcd_cells.cells(kvs), answer.header.revision

    async def _range(self, name: str, span: Span) -> pb.RangeResponse:
        return await self._reads.range(self._client, name, span, self._stream.newest)

    async def _listing(self, prefix: str) -> tuple[Listing, tuple[Cell, ...]]:
        answer = await self._range(prefix, _span(prefix, False))
        found = etcd_cells.cells(answer.kvs)
        orphans = tuple(cell for cell in found.values() if cell.orphaned)
        return Listing(tuple(cell.entry for cell in found.values()), answer.header.revision), orphans

    async def _commit(self, step: Step) -> int | None:
        """The revision of the write; None when something that it stands on has changed."""
        answer = await self._client.call(TXN, pb.TxnRequest(compare=step.compare, success=step.ops))
        self._reads.saw(answer.header.revision)
        return int(answer.header.revision) if answer.succeeded else None

    async def _settle(self, cell: Cell) -> bool:
        """Write that a key's holder has ended; False: somebody else did, or we may not."""
        entry = cell.entry
        op = Op(key=entry.key, value=entry.value, flags=entry.flags)
        try:
            await self._commit(etcd_cells.release(op, cell))
        except RegistryError:
            return False
        return True

    async def _settled(self, key: str) -> None:
        with suppress(RegistryError):
            await self.get(key)


def _span(name: str, exact: bool) -> Span:
    """The range of a key with what lies behind it, or of all keys that begin so."""
    key = name.encode()
    if exact:
        return key, key + BEHIND
    return key or b"\0", etcd_cells.prefix_end(key)


def _session(value: bytes) -> Session:
    try:
        return msgspec.json.decode(value, type=Session)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Session()


def _contended(names: Sequence[str]) -> Conflict:
    return Conflict(f"{names[0]}: changed {TRIES} times while it was written")


def _check(op: Op) -> None:
    _check_key(op.key)
    if op.value is not None and len(op.value) > MAX_VALUE:
        raise TooLarge(f"{op.key}: {len(op.value)} bytes, {MAX_VALUE} at most")


def _check_key(key: str) -> None:
    if not keys.valid_key(key):
        raise Denied(f"{key[:600]!r} is not a key: [A-Za-z0-9._/-], 1-512, no empty, '.' or '..' segment")
