"""What counts of two registries, case by case. All interleavings: `tests/property/test_merge.py`."""

from collections.abc import Sequence

import msgspec
import pytest

from registry import keys, values
from registry.merge import Copy, Merge, chosen, said
from registry.model import ADOPTED, Instance
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent
from tests.unit.registry import made

WEB = made.instance()
KEY = made.key(WEB)
OUT = msgspec.structs.replace(WEB, state="withdrawn")
KEPT = msgspec.structs.replace(WEB, state="maintenance", reason="disk")


def stored(one: Instance, version: int = 1) -> Entry:
    return made.stored(one, version)


def told(merge: Merge, *events: tuple[str, WatchEvent]) -> list[WatchEvent]:
    return [merged for name, event in events for merged in merge.apply(name, event)]


def begun(home: Sequence[Entry] = (), etcd: Sequence[Entry] = (), **rule: object) -> Merge:
    merge = Merge(("home", "etcd"), **rule)  # type: ignore[arg-type] - the rule comes from the test
    told(merge, ("home", Resync(10, tuple(home))), ("etcd", Resync(500, tuple(etcd))))
    return merge


@pytest.mark.parametrize(
    ("first", "second", "counts"),
    [
        ((WEB, True), (OUT, True), WEB),  # a move
        ((OUT, True), (WEB, True), WEB),
        ((OUT, True), (OUT, True), OUT),
        ((OUT, True), (WEB, False), OUT),  # what a lost registry last said is older than a withdrawal
        ((WEB, False), (OUT, True), OUT),
        ((OUT, False), (WEB, True), WEB),
        ((WEB, True), (KEPT, True), KEPT),
        ((WEB, True), (KEPT, False), KEPT),  # nobody lifts a maintenance by not knowing of it
        ((OUT, True), (KEPT, False), OUT),
        ((KEPT, False), (WEB, False), KEPT),
    ],
)
def test_what_counts_of_two_copies(
    first: tuple[Instance, bool], second: tuple[Instance, bool], counts: Instance
) -> None:
    found = chosen([Copy(stored(one), fresh) for one, fresh in (first, second)])
    assert found is not None
    assert values.read_instance(KEY, found.entry.value) == counts


def test_a_registry_in_contact_is_believed_and_else_the_first() -> None:
    old, new = (msgspec.structs.replace(WEB, port=port) for port in (1, 2))
    copies = [Copy(stored(old), True), Copy(stored(new), True)]
    assert chosen(copies) is copies[0]
    assert chosen([Copy(stored(old), False), copies[1]]) is copies[1]
    assert chosen([]) is None


def test_nothing_is_told_before_every_registry_was_listed_or_lost() -> None:
    merge = Merge(("home", "etcd"))
    assert told(merge, ("home", Resync(10, (stored(WEB),)))) == []
    (event,) = told(merge, ("etcd", Lost("refused")))
    assert isinstance(event, Resync)
    assert (len(event.entries), event.lacking) == (1, "etcd: refused")
    (event,) = told(merge, ("etcd", Resync(500, ())))
    assert isinstance(event, Resync), "only now is the listing whole"
    assert event.lacking == ""


def test_a_key_that_goes_in_one_and_stands_in_the_other_is_no_event() -> None:
    merge = begun(home=[stored(WEB)])
    assert told(merge, ("etcd", Batch(501, (stored(WEB, 501),)))) == [Alive(11)]
    assert told(merge, ("home", Batch(11, (), (KEY,)))) == [Alive(12)]
    (event,) = told(merge, ("etcd", Batch(502, (), (KEY,))))
    assert isinstance(event, Batch)
    assert event.deletes == (KEY,)


def test_losing_contact_takes_nothing_and_is_named_until_it_is_back() -> None:
    merge = begun(etcd=[stored(WEB)])
    (event,) = told(merge, ("etcd", Lost("refused")))
    assert event == Alive(10, "etcd: refused")
    (event,) = told(merge, ("home", Alive(11)))
    assert event == Alive(11, "etcd: refused")
    assert KEY in merge.entries
    assert told(merge, ("etcd", Alive(500))) == [Alive(11)]


def test_losing_all_is_lost_and_said_once() -> None:
    merge = begun()
    told(merge, ("etcd", Lost("refused")))
    assert told(merge, ("home", Lost("gone"))) == [Lost("home: gone; etcd: refused")]
    assert told(merge, ("etcd", Lost("again"))) == []
    assert told(merge, ("home", Alive(12))) == [Alive(12, "etcd: again")]


def test_what_was_withdrawn_meanwhile_does_not_come_back_from_a_lost_registry() -> None:
    merge = begun(home=[stored(WEB)], etcd=[stored(WEB)])
    told(merge, ("etcd", Lost("refused")), ("home", Batch(11, (stored(OUT, 11),))))
    (event,) = told(merge, ("home", Batch(12, (), (KEY,))))
    assert isinstance(event, Batch)
    assert event.deletes == (KEY,)


def test_a_listing_replaces_what_its_registry_said_before() -> None:
    merge = begun(etcd=[stored(WEB)])
    (event,) = told(merge, ("etcd", Resync(3, ())))
    assert isinstance(event, Batch), "the other one's part was not listed anew"
    assert event.deletes == (KEY,)
    assert merge.index > 10


def test_priority_hides_other_tools_instances_of_a_service_that_an_earlier_registry_lists() -> None:
    foreign = msgspec.structs.replace(made.instance(node="old", id="web-9"), inbound=None)
    adopted = msgspec.structs.replace(made.instance(node="old", id="web-8"), meta={ADOPTED: "true"})
    moving = made.instance(node="b", id="web-2")
    merge = begun([stored(WEB)], [stored(one) for one in (foreign, adopted, moving)], rule="priority")
    assert set(merge.entries) == {KEY, made.key(moving)}, "the mesh's own always count: they are on the move"
    (event,) = told(merge, ("home", Batch(11, (), (KEY,))))
    assert isinstance(event, Batch)
    assert {entry.key for entry in event.puts} == {made.key(foreign), made.key(adopted)}
    (event,) = told(merge, ("home", Batch(12, (stored(WEB, 12),))))
    assert isinstance(event, Batch)
    assert set(event.deletes) == {made.key(foreign), made.key(adopted)}


def test_leases_live_in_any_registry() -> None:
    key = keys.lease("a")
    merge = begun([made.entry(key, b"{}")], [made.entry(key, b"{}")], rule="priority")
    assert told(merge, ("home", Batch(11, (), (key,)))) == [Alive(11)]
    assert key in merge.entries


def test_bytes_that_are_no_instance_stand_as_they_are() -> None:
    assert said(made.entry(KEY, b"\xff")).State == "active"
    assert not said(made.entry(KEY, b"\xff")).ours
    assert said(stored(WEB)).ours


def test_what_one_registry_said_can_be_asked_for() -> None:
    merge = begun(etcd=[stored(WEB)])
    merge.take("etcd", Lost("refused"))
    assert (set(merge.known("etcd")), set(merge.known("home"))) == ({KEY}, set())
    assert (merge.lost("etcd"), merge.lost("home")) == ("refused", "")
