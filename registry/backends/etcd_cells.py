"""A store's entry in etcd's keys, and back. Decides only.

The value is stored under its own key as it is, so that operators write it with `etcdctl`. What etcd has no place for
lies in up to two further keys behind it, which nothing but a range over the first one finds (no key of ours holds a
zero byte), so that one read, one watch and one permission on a prefix cover all three:

    KEY            the value; attached to the lease, when the lease's end deletes it
    KEY \\0         `Extra` as JSON: flags, how often the key was locked, the holder; only when that says something
    KEY \\0 \\0      attached to a lease that only lets go at its end: gone means released

The second counts only with the key's own mod revision: whoever writes the key with another tool drops it.
"""

from collections.abc import Iterable, Mapping, Sequence

import msgspec

from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Conflict
from registry.store import Behavior, Entry, Op

MARK = b"\0"
BEHIND = b"\x01"  # the end of a range over a key and what lies behind it


class Extra(msgspec.Struct, frozen=True, omit_defaults=True):
    """`holder`: the lease by which the key is held although it does not live by it."""

    flags: int = 0
    locks: int = 0
    holder: str = ""


class Cell(msgspec.Struct, frozen=True):
    """One key with what lies behind it. `orphaned`: the lease that held it has ended, nobody has written that yet."""

    entry: Entry
    extra: bool = False
    holder: int = 0  # create revision of the third key
    releasing: bool = False  # the entry's lease lets go at its end
    orphaned: bool = False


class Step(msgspec.Struct, frozen=True):
    """What a transaction sends, and what the caller is told when there is nothing to send."""

    compare: tuple[pb.Compare, ...]
    ops: tuple[pb.RequestOp, ...]
    standing: int


def lease_name(lease: int) -> str:
    """As `etcdctl lease list` prints it."""
    return f"{lease:x}"


def lease_number(lease: str) -> int | None:
    """None: it is no lease of etcd's."""
    try:
        number = int(lease, 16)
    except ValueError:
        return None
    return number if 0 < number < 2**63 else None


def prefix_end(prefix: bytes) -> bytes:
    """The end of the range of all keys that begin so; of an empty prefix: everything."""
    trimmed = prefix.rstrip(b"\xff")
    return trimmed[:-1] + bytes([trimmed[-1] + 1]) if trimmed else b"\0"


def name_of(key: bytes) -> str | None:
    """The entry's key; None for what lies behind one, and for what no client of ours could have written."""
    if MARK in key:
        return None
    try:
        return key.decode()
    except UnicodeDecodeError:
        return None


def cells(kvs: Iterable[pb.KeyValue]) -> dict[str, Cell]:
    """A range's answer by key, in etcd's order."""
    found = {kv.key: kv for kv in kvs}
    read: dict[str, Cell] = {}
    for key, kv in found.items():
        name = name_of(key)
        if name is not None:
            holder = found.get(key + MARK + MARK)
            read[name] = cell(name, kv, found.get(key + MARK), holder)
    return read


def cell(name: str, kv: pb.KeyValue, behind: pb.KeyValue | None, holder: pb.KeyValue | None) -> Cell:
    extra = Extra()
    if behind is not None and behind.mod_revision == kv.mod_revision:
        extra = _extra(behind.value)
    lease = lease_name(kv.lease) if kv.lease else None
    releasing = lease is None and bool(extra.holder)
    live = holder is not None and lease_name(holder.lease) == extra.holder
    if releasing and live:
        lease = extra.holder
    entry = Entry(
        key=name,
        value=kv.value,
        version=kv.mod_revision,
        created=kv.create_revision,
        flags=extra.flags,
        lease=lease,
        lock_index=extra.locks or int(bool(kv.lease)),
    )
    return Cell(
        entry,
        extra=behind is not None,
        holder=holder.create_revision if holder is not None else 0,
        releasing=releasing and live,
        orphaned=releasing and not live,
    )


def _extra(text: bytes) -> Extra:
    try:
        return msgspec.json.decode(text, type=Extra)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return Extra()  # written by hand: as good as none


# ---- writes -----------------------------------------------------------------------------------------------------


def decide(ops: Sequence[Op], known: Mapping[str, Cell], behaviors: Mapping[str, Behavior]) -> Step:
    """The transaction that does `ops`, in order, to what is `known` of their keys. Raises Conflict naming the key.

    `behaviors`: of the leases that the ops name. Several ops on one key come down to their last: etcd takes one each.
    """
    now: dict[str, Cell | None] = {op.key: known.get(op.key) for op in ops}
    standing = 0
    for op in ops:
        before = now[op.key]
        _expect(op, before)
        if op.value is None:
            now[op.key] = None
            continue
        after = _put(op, before, behaviors)
        standing = max(standing, after.entry.version)
        now[op.key] = after
    requests = tuple(
        request
        for key, after in now.items()
        if after is not known.get(key)
        for request in write(key, known.get(key), after)
    )
    compare = tuple(guard for key in now for guard in guards(key, known.get(key)))
    return Step(compare, requests, standing)


def release(op: Op, held: Cell) -> Step:
    """Write the key without its lease."""
    entry = msgspec.structs.replace(held.entry, value=op.value or b"", flags=op.flags, lease=None)
    after = Cell(entry)
    return Step(tuple(guards(op.key, held)), tuple(write(op.key, held, after)), 0)


def guards(key: str, before: Cell | None) -> Iterable[pb.Compare]:
    """The key is as it was read, and so is who holds it."""
    name = key.encode()
    version = before.entry.version if before is not None else 0
    yield pb.Compare(target=pb.Compare.MOD, result=pb.Compare.EQUAL, key=name, mod_revision=version)
    if before is not None and (before.releasing or before.orphaned):
        third = name + MARK + MARK
        yield pb.Compare(target=pb.Compare.CREATE, result=pb.Compare.EQUAL, key=third, create_revision=before.holder)


def write(key: str, before: Cell | None, after: Cell | None) -> Iterable[pb.RequestOp]:
    """The requests that make `after` of `before`."""
    name = key.encode()
    if after is None:
        yield _delete(name, name + BEHIND)
        return
    entry = after.entry
    lease = (entry.lease and lease_number(entry.lease)) or 0
    own = 0 if after.releasing else lease  # the lease that takes the key along at its end
    extra = Extra(entry.flags, entry.lock_index, entry.lease or "" if after.releasing else "")
    yield _put_op(name, entry.value, own)
    if extra.flags or extra.holder or extra.locks != int(bool(own)):
        yield _put_op(name + MARK, msgspec.json.encode(extra), own)
    elif before is not None and before.extra:
        yield _delete(name + MARK)
    if after.releasing and not (before is not None and before.releasing and before.entry.lease == entry.lease):
        yield _put_op(name + MARK + MARK, b"", lease)
    elif not after.releasing and before is not None and before.holder:
        yield _delete(name + MARK + MARK)


def _expect(op: Op, before: Cell | None) -> None:
    found = before.entry.version if before is not None else 0
    if op.expect is not None and op.expect != found:
        wanted = f"version {op.expect}" if op.expect else "absent"
        raise Conflict(f"{op.key}: expected {wanted}, it is {f'at version {found}' if found else 'absent'}")


def _put(op: Op, before: Cell | None, behaviors: Mapping[str, Behavior]) -> Cell:
    """The cell after a put; `before` itself when nothing would change."""
    value = op.value or b""
    lease = _same_spelling(op.lease)
    if before is None:
        releasing = lease is not None and behaviors.get(lease) == "release"
        entry = Entry(key=op.key, value=value, version=0, created=0, flags=op.flags, lease=lease)
        return Cell(msgspec.structs.replace(entry, lock_index=int(lease is not None)), releasing=releasing)
    old = before.entry
    kept = lease or old.lease
    if (value, op.flags, kept) == (old.value, old.flags, old.lease) and not before.orphaned:
        return before
    taken = kept != old.lease
    releasing = behaviors.get(kept or "") == "release" if taken else before.releasing
    locks = old.lock_index + int(taken)
    return Cell(
        msgspec.structs.replace(old, value=value, flags=op.flags, lease=kept, lock_index=locks), releasing=releasing
    )


def _same_spelling(lease: str | None) -> str | None:
    number = lease_number(lease) if lease is not None else None
    return lease_name(number) if number is not None else None


def _put_op(key: bytes, value: bytes, lease: int) -> pb.RequestOp:
    return pb.RequestOp(request_put=pb.PutRequest(key=key, value=value, lease=lease))


def _delete(key: bytes, end: bytes = b"") -> pb.RequestOp:
    return pb.RequestOp(request_delete_range=pb.DeleteRangeRequest(key=key, range_end=end))


# ---- watch events -----------------------------------------------------------------------------------------------


class News(msgspec.Struct, frozen=True):
    """What a watch's answer says: states by key in order (None: deleted), and keys whose holder has ended."""

    index: int
    changes: tuple[tuple[str, int, Entry | None], ...]
    released: tuple[str, ...]


def news(events: Sequence[pb.Event]) -> News:
    """Keys that one transaction wrote come in one answer, so what lies behind a key is found here beside it."""
    puts = {(event.kv.key, event.kv.mod_revision): event.kv for event in events if event.type == pb.Event.PUT}
    touched = {(event.kv.key, event.kv.mod_revision) for event in events}
    changes: list[tuple[str, int, Entry | None]] = []
    released: dict[str, None] = {}
    for event in events:
        kv = event.kv
        name = name_of(kv.key)
        if name is None:
            held = kv.key.removesuffix(MARK + MARK)
            if event.type == pb.Event.DELETE and held != kv.key and (held, kv.mod_revision) not in touched:
                released[held.decode(errors="replace")] = None
        elif event.type == pb.Event.DELETE:
            changes.append((name, kv.mod_revision, None))
        else:
            changes.append((name, kv.mod_revision, _told(name, kv, puts.get((kv.key + MARK, kv.mod_revision)))))
    return News(max((e.kv.mod_revision for e in events), default=0), tuple(changes), tuple(released))


def _told(name: str, kv: pb.KeyValue, behind: pb.KeyValue | None) -> Entry:
    """The entry as it was written: its holder was alive then."""
    entry = cell(name, kv, behind, None).entry
    holder = _extra(behind.value).holder if behind is not None and not kv.lease else ""
    return msgspec.structs.replace(entry, lease=holder) if holder else entry
