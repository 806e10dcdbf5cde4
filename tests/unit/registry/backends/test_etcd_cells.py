"""Entries in etcd's keys: reading, deciding a transaction, watch events."""

from collections.abc import Sequence

import msgspec
import pytest

from registry.backends import etcd_cells as cells
from registry.backends.etcd_cells import Cell, Extra
from registry.backends.etcdpb import etcd_pb2 as pb
from registry.errors import Conflict
from registry.store import Op

LEASE, OTHER = 0xAB, 0xCD


def kv(key: bytes, value: bytes = b"v", mod: int = 5, lease: int = 0, create: int = 1) -> pb.KeyValue:
    return pb.KeyValue(key=key, value=value, mod_revision=mod, create_revision=create, lease=lease)


def extra(flags: int = 0, locks: int = 0, holder: str = "") -> bytes:
    return msgspec.json.encode(Extra(flags, locks, holder))


def one(*kvs: pb.KeyValue) -> Cell:
    (found,) = cells.cells(kvs).values()
    return found


def requests(ops: Sequence[pb.RequestOp]) -> list[tuple[str, bytes, int]]:
    """(what, key, lease) of each."""
    found = []
    for op in ops:
        if op.HasField("request_put"):
            found.append(("put", op.request_put.key, op.request_put.lease))
        else:
            found.append(("delete", op.request_delete_range.key, 0))
    return found


# ---- names ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("prefix", "end"), [(b"a/", b"a0"), (b"a\xff", b"b"), (b"\xff", b"\0"), (b"", b"\0"), (b"a", b"b")]
)
def test_the_end_of_a_prefix(prefix: bytes, end: bytes) -> None:
    assert cells.prefix_end(prefix) == end


@pytest.mark.parametrize("text", ["", "no", "-1", "0", "10000000000000000", "00000000-0000-0000-0000-000000000000"])
def test_what_is_no_lease(text: str) -> None:
    assert cells.lease_number(text) is None


def test_a_lease_is_named_as_etcdctl_does() -> None:
    assert cells.lease_name(LEASE) == "ab"
    assert cells.lease_number("ab") == LEASE


# ---- reading ----------------------------------------------------------------------------------------------------


def test_a_key_alone_is_an_entry() -> None:
    entry = one(kv(b"a", b"1", 7)).entry
    assert (entry.key, entry.value, entry.version, entry.created) == ("a", b"1", 7, 1)
    assert (entry.flags, entry.lease, entry.lock_index) == (0, None, 0)


def test_what_lies_behind_a_key_counts_with_its_own_version_alone() -> None:
    assert one(kv(b"a"), kv(b"a\0", extra(42))).entry.flags == 42
    assert one(kv(b"a", mod=6), kv(b"a\0", extra(42))).entry.flags == 0  # written since by another tool
    assert one(kv(b"a"), kv(b"a\0", b"{not json")).entry.flags == 0


def test_a_key_that_dies_with_its_lease_is_held_by_it() -> None:
    entry = one(kv(b"a", lease=LEASE)).entry
    assert (entry.lease, entry.lock_index) == ("ab", 1)


def test_a_holder_that_has_ended_leaves_an_orphan() -> None:
    held = one(kv(b"a"), kv(b"a\0", extra(0, 2, "ab")), kv(b"a\0\0", b"", lease=LEASE, create=3))
    assert (held.entry.lease, held.entry.lock_index, held.releasing, held.holder) == ("ab", 2, True, 3)
    orphan = one(kv(b"a"), kv(b"a\0", extra(0, 2, "ab")))
    assert (orphan.entry.lease, orphan.orphaned, orphan.releasing) == (None, True, False)


def test_keys_that_no_client_of_ours_wrote_are_left_out() -> None:
    assert list(cells.cells([kv(b"a"), kv(b"\xff\xfe"), kv(b"b\0")])) == ["a"]


# ---- deciding ---------------------------------------------------------------------------------------------------


def test_a_new_key_is_one_put_guarded_by_its_absence() -> None:
    step = cells.decide([Op(key="a", value=b"1")], {}, {})
    assert requests(step.ops) == [("put", b"a", 0)]
    assert [(guard.key, guard.mod_revision) for guard in step.compare] == [(b"a", 0)]


def test_a_put_that_changes_nothing_is_no_write() -> None:
    step = cells.decide([Op(key="a", value=b"v")], {"a": one(kv(b"a", mod=7))}, {})
    assert (step.ops, step.standing) == ((), 7)


def test_a_put_without_a_lease_keeps_the_one_that_the_key_has() -> None:
    known = {"a": one(kv(b"a", lease=LEASE))}
    assert requests(cells.decide([Op(key="a", value=b"2")], known, {}).ops) == [("put", b"a", LEASE)]


def test_a_put_with_another_lease_moves_the_key_and_counts() -> None:
    known = {"a": one(kv(b"a", lease=LEASE))}
    step = cells.decide([Op(key="a", value=b"v", lease="cd")], known, {"cd": "delete"})
    assert requests(step.ops) == [("put", b"a", OTHER), ("put", b"a\0", OTHER)]
    assert msgspec.json.decode(step.ops[1].request_put.value, type=Extra).locks == 2


def test_a_lease_that_releases_holds_the_third_key_alone() -> None:
    step = cells.decide([Op(key="a", value=b"1", lease="ab")], {}, {"ab": "release"})
    assert requests(step.ops) == [("put", b"a", 0), ("put", b"a\0", 0), ("put", b"a\0\0", LEASE)]


def test_releasing_takes_the_third_key_away_and_remembers_the_lock() -> None:
    held = one(kv(b"a"), kv(b"a\0", extra(0, 1, "ab")), kv(b"a\0\0", b"", lease=LEASE, create=3))
    step = cells.release(Op(key="a", value=b"2"), held)
    assert requests(step.ops) == [("put", b"a", 0), ("put", b"a\0", 0), ("delete", b"a\0\0", 0)]
    assert [(guard.key, guard.create_revision) for guard in step.compare[1:]] == [(b"a\0\0", 3)]


def test_flags_that_go_back_to_none_leave_nothing_behind() -> None:
    known = {"a": one(kv(b"a"), kv(b"a\0", extra(42)))}
    assert requests(cells.decide([Op(key="a", value=b"v")], known, {}).ops) == [
        ("put", b"a", 0),
        ("delete", b"a\0", 0),
    ]


def test_deleting_takes_all_that_lies_behind_along() -> None:
    step = cells.decide([Op(key="a", value=None)], {"a": one(kv(b"a"))}, {})
    delete = step.ops[0].request_delete_range
    assert (delete.key, delete.range_end) == (b"a", b"a\x01")
    assert cells.decide([Op(key="b", value=None)], {}, {}).ops == ()


def test_several_ops_on_one_key_come_down_to_the_last() -> None:
    ops = [Op(key="a", value=b"1"), Op(key="a", value=b"2"), Op(key="b", value=b"1"), Op(key="b", value=None)]
    step = cells.decide(ops, {}, {})
    assert requests(step.ops) == [("put", b"a", 0)]
    assert step.ops[0].request_put.value == b"2"


@pytest.mark.parametrize("expect", [0, 4, 6])
def test_an_unexpected_version_names_its_key(expect: int) -> None:
    with pytest.raises(Conflict, match=r"a: expected .*, it is at version 5"):
        cells.decide([Op(key="a", value=b"1", expect=expect)], {"a": one(kv(b"a"))}, {})
    with pytest.raises(Conflict, match="expected version 4, it is absent"):
        cells.decide([Op(key="b", value=None, expect=4)], {}, {})


# ---- events -----------------------------------------------------------------------------------------------------


def put(key: bytes, value: bytes = b"v", mod: int = 5, lease: int = 0) -> pb.Event:
    return pb.Event(kv=kv(key, value, mod, lease))


def gone(key: bytes, mod: int) -> pb.Event:
    return pb.Event(type=pb.Event.DELETE, kv=pb.KeyValue(key=key, mod_revision=mod))


def test_events_are_told_in_order_with_what_lies_behind() -> None:
    said = cells.news([put(b"a", b"1", 5), put(b"a\0", extra(7), 5), gone(b"b", 6), put(b"a", b"2", 6)])
    assert said.index == 6
    told = [(key, version, entry and (entry.value, entry.flags)) for key, version, entry in said.changes]
    assert told == [("a", 5, (b"1", 7)), ("b", 6, None), ("a", 6, (b"2", 0))]
    assert said.released == ()


def test_a_lock_is_told_with_its_holder() -> None:
    said = cells.news([put(b"a"), put(b"a\0", extra(0, 1, "ab")), put(b"a\0\0", b"", lease=LEASE)])
    ((_, _, entry),) = said.changes
    assert entry is not None
    assert entry.lease == "ab"


def test_a_holder_that_goes_by_itself_is_told_apart_from_one_that_was_released() -> None:
    assert cells.news([gone(b"a\0\0", 6)]).released == ("a",)
    assert cells.news([put(b"a", mod=6), gone(b"a\0\0", 6)]).released == ()
    assert cells.news([gone(b"a", 6), gone(b"a\0", 6), gone(b"a\0\0", 6)]).released == ()
