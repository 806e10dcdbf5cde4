"""A store that is wiped, restored, another's, silent at the start or suddenly half empty: what stays in force."""

import pytest

from registry import keys
from registry.brake import Limits
from registry.change import Change
from registry.fold import Fold
from registry.roster import MAX_ORPHAN, MAX_SUSPECT
from registry.store import Alive, Batch, Resync
from tests.unit.registry import made
from tests.unit.registry.test_fold import NOTHING, WEB, document, holding, leases, states

# ---- which store is this --------------------------------------------------------------------------------------------


def identified(store_id: bytes = b"one") -> Fold:
    """A fold that knows its store, with a document, an instance on host a and a root."""
    fold = holding(made.instance())
    fold.apply(keys.STORE_ID, Resync(1, (made.entry(keys.STORE_ID, store_id),)), 0.0)
    fold.apply(keys.POLICY, Resync(1, (document("web", b"old"),)), 0.0)
    fold.apply(keys.CA_ROOTS, Resync(1, (made.entry(keys.CA_ROOTS + "r", b"pem"),)), 0.0)
    return fold


def is_now(fold: Fold, store_id: bytes | None, now: float = 1.0) -> Change:
    found = () if store_id is None else (made.entry(keys.STORE_ID, store_id, 9),)
    return fold.apply(keys.STORE_ID, Resync(9, found), now)


def texts(fold: Fold) -> dict[str, bytes]:
    return {name: one.text for (_, name), one in fold.documents.items()}


@pytest.mark.parametrize("shown", [None, b"two"])
def test_of_a_wiped_or_foreign_store_nothing_is_deleted_and_no_document_taken_until_adopted(shown: bytes) -> None:
    fold = identified()
    assert is_now(fold, shown) == Change(store=True)
    assert fold.foreign
    fold.apply(keys.POLICY, Batch(10, (document("web", b"new", 10), document("api", b"new", 10))), 2.0)
    fold.apply(keys.POLICY, Batch(11, (), (keys.policy("service-router", "web"),)), 2.0)
    fold.apply(keys.SERVICES, Resync(10, ()), 2.0)
    fold.apply(keys.LEASES, Resync(10, ()), 2.0)
    fold.apply(keys.CA_ROOTS, Batch(10, (), (keys.CA_ROOTS + "r",)), 2.0)
    assert texts(fold) == {"web": b"old"}
    assert states(fold, MAX_SUSPECT * 2) == {"web-1": "suspect"}
    assert fold.roots == {"r": b"pem"}
    assert fold.held_documents == {("service-router", "web")}
    assert keys.POLICY in fold.held
    assert fold.adopt(3.0).documents == {("service-router", "web"), ("service-router", "api")}
    assert texts(fold) == {"api": b"new"}
    assert states(fold, 3.0) == {}
    assert (fold.roots, fold.held, fold.foreign) == ({}, {}, "")


def test_a_restored_store_is_known_by_its_older_id() -> None:
    fold = identified(b"one.2")
    is_now(fold, b"one.1")
    assert "restored from a backup" in fold.foreign


def test_an_adoption_elsewhere_is_one_here() -> None:
    fold = identified()
    is_now(fold, None)
    fold.apply(keys.POLICY, Resync(10, (document("api"),)), 2.0)
    moved = is_now(fold, b"one.1", 3.0)
    assert moved.documents == {("service-router", "web"), ("service-router", "api")}
    assert moved.store
    assert set(texts(fold)) == {"api"}
    assert (fold.pinned, fold.foreign, fold.held) == ("one.1", "", {})


def test_a_store_that_comes_back_as_it_was_is_believed_again() -> None:
    fold = identified()
    is_now(fold, None)
    fold.apply(keys.POLICY, Resync(9, ()), 1.0)
    assert is_now(fold, b"one", 2.0).store
    assert fold.foreign == ""
    assert fold.held  # its documents were not listed yet
    assert texts(fold) == {"web": b"old"}
    assert fold.apply(keys.POLICY, Resync(12, (document("web", b"newer", 12),)), 3.0)
    assert (fold.held, texts(fold)) == ({}, {"web": b"newer"})


def test_a_restart_beside_a_wiped_store_recalls_what_the_snapshot_knows() -> None:
    fold = Fold()
    fold.pinned = "one"
    for prefix in (keys.STORE_ID, keys.POLICY, keys.SERVICES, keys.LEASES, keys.CA_ROOTS):
        fold.apply(prefix, Resync(1, ()), 0.0)
    assert fold.foreign
    saved = {
        keys.POLICY: (document("web", b"old"),),
        keys.SERVICES: (made.stored(made.instance()),),
        keys.LEASES: leases("a"),
        keys.CA_ROOTS: (made.entry(keys.CA_ROOTS + "r", b"pem"),),
    }
    assert fold.restore(saved, (), 1.0)
    assert texts(fold) == {"web": b"old"}
    assert states(fold, 1.0) == {"web-1": "suspect"}
    assert fold.held_documents == {("service-router", "web")}
    fold.adopt(2.0)
    assert (texts(fold), states(fold, 2.0), fold.roots) == ({}, {}, {})


def test_a_snapshot_of_before_an_adoption_puts_no_store_in_doubt() -> None:
    fold = Fold()
    fold.pinned = "one.1"
    fold.restore({keys.STORE_ID: (made.entry(keys.STORE_ID, b"one"),)}, (), 0.0)
    assert (fold.pinned, fold.foreign) == ("one.1", "")
    fresh = Fold()
    fresh.restore({keys.STORE_ID: (made.entry(keys.STORE_ID, b"one"),)}, (), 0.0)
    assert fresh.pinned == "one"


# ---- the brake ------------------------------------------------------------------------------------------------------


def wave() -> Fold:
    """Three of four instances, each on a host of its own, have vanished at 10 s."""
    fold = holding(*(made.instance(node=node, id=f"web-{node}") for node in "abcd"), hosts=("a", "b", "c", "d"))
    gone = tuple(made.key(made.instance(node=node, id=f"web-{node}")) for node in "abc")
    fold.apply(keys.SERVICES, Batch(5, (), gone), 10.0)
    return fold


def test_the_brake_is_shown_and_its_limits_can_be_set() -> None:
    fold = wave()
    assert fold.braked == {"web": 3}
    assert len(states(fold, 10.0 + MAX_ORPHAN + 1)) == 4
    fold.limits = Limits(percent=80.0)
    assert fold.braked == {}
    assert len(states(fold, 10.0 + MAX_ORPHAN + 1)) == 1


def test_adopting_lets_braked_ones_go_and_hosts_come_back_as_usual() -> None:
    fold = wave()
    fold.apply(keys.LEASES, Batch(6, (), (keys.lease("d"),)), 11.0)
    assert fold.adopt(12.0).services == WEB
    assert states(fold, 12.0) == {}
    assert fold.braked == {}
    fold.apply(keys.LEASES, Batch(7, leases("d")), 13.0)
    assert states(fold, 13.0) == {"web-d": "passing"}


def test_deregistering_passes_at_once_also_in_a_wave() -> None:
    hosts = ("a", "b", "c", "d")
    leaving = [made.instance(node=node, id=f"web-{node}", state="withdrawn") for node in "abc"]
    fold = holding(*(made.instance(node=node, id=f"web-{node}") for node in hosts), hosts=hosts)
    fold.apply(keys.SERVICES, Batch(5, tuple(map(made.stored, leaving))), 10.0)
    assert states(fold, 10.0) == {"web-a": "draining", "web-b": "draining", "web-c": "draining", "web-d": "passing"}
    fold.apply(keys.SERVICES, Batch(6, (), tuple(map(made.key, leaving))), 40.0)
    assert states(fold, 40.0) == {"web-d": "passing"}
    assert fold.braked == {}


# ---- a saved snapshot ---------------------------------------------------------------------------------------------


def restored() -> Fold:
    """From a snapshot: two instances of `web` on hosts a and b, of which only a had a lease."""
    fold = Fold()
    saved = {
        keys.SERVICES: tuple(map(made.stored, (made.instance(), made.instance(node="b", id="web-2")))),
        keys.LEASES: leases("a"),
        keys.POLICY: (document("web"),),
    }
    fold.restore(saved, (), 0.0)
    return fold


def test_a_snapshot_is_in_force_without_the_registry_and_no_doubt_grows_old() -> None:
    fold = restored()
    assert fold.usable
    assert not fold.complete
    assert states(fold, MAX_SUSPECT * 2) == {"web-1": "passing", "web-2": "suspect"}
    assert fold.next_deadline(0.0) is None


def test_what_the_registry_lists_after_a_snapshot_replaces_it_and_what_it_lacks_has_vanished() -> None:
    fold = restored()
    fold.apply(keys.LEASES, Resync(5, leases("a", "b")), 10.0)
    fold.apply(keys.SERVICES, Resync(5, (made.stored(made.instance(node="b", id="web-2")),)), 10.0)
    assert fold.restored.isdisjoint({keys.LEASES, keys.SERVICES})
    assert states(fold, 11.0) == {"web-1": "suspect", "web-2": "passing"}
    assert states(fold, 10.0 + MAX_ORPHAN) == {"web-2": "passing"}


def test_a_snapshot_never_replaces_what_was_listed() -> None:
    fold = Fold()
    fold.apply(keys.POLICY, Resync(5, (document("web", b"new", 5),)), 0.0)
    assert fold.restore({keys.POLICY: (document("web", b"old"), document("x"))}, (), 1.0) == NOTHING
    assert {name: one.text for (_, name), one in fold.documents.items()} == {"web": b"new"}


def test_an_unreadable_value_of_a_snapshot_is_named_and_skipped() -> None:
    fold = Fold()
    fold.restore({keys.SERVICES: (made.entry(keys.instance("web", "a", "1"), b"{"),)}, (), 0.0)
    assert list(fold.problems) == [keys.instance("web", "a", "1")]
    assert not fold.instances


# ---- several registries, one of them out of contact -----------------------------------------------------------------

AWAY = "etcd: refused"


def test_while_one_registry_is_out_of_contact_no_doubt_grows_old() -> None:
    fold = holding(made.instance())
    fold.apply(keys.LEASES, Resync(2, ()), 0.0)
    for prefix in (keys.SERVICES, keys.LEASES):
        fold.apply(prefix, Alive(3, AWAY), 1.0)
    fold.apply(keys.SERVICES, Batch(4, (made.stored(made.instance(id="web-2")),), lacking=AWAY), 2.0)
    assert fold.unreachable == dict.fromkeys((keys.SERVICES, keys.LEASES), AWAY)
    assert fold.next_deadline(3.0) is None
    assert states(fold, MAX_ORPHAN * 2) == {"web-1": "suspect", "web-2": "suspect"}
    for prefix in (keys.SERVICES, keys.LEASES):
        fold.apply(prefix, Alive(5), 4.0)
    assert not fold.unreachable
    assert states(fold, MAX_ORPHAN * 2) == {}


def test_a_listing_that_lacks_a_registry_is_completed_from_the_snapshot() -> None:
    """A start while one of two registries is away: what only that one knew stays in use."""
    fold = Fold()
    fold.apply(keys.SERVICES, Resync(1, (made.stored(made.instance(id="new")),), AWAY), 0.0)
    assert keys.SERVICES not in fold.listed
    saved = {keys.SERVICES: (made.stored(made.instance(id="old")),), keys.LEASES: (made.entry(keys.lease("a"), b""),)}
    fold.restore(saved, (), 3.0)
    assert keys.SERVICES in fold.restored
    assert states(fold, MAX_ORPHAN * 2) == {"new": "passing", "old": "passing"}
    fold.apply(keys.SERVICES, Resync(2, tuple(made.stored(made.instance(id=one)) for one in ("new", "old"))), 4.0)
    assert keys.SERVICES in fold.listed
    assert states(fold, 5.0) == {"new": "passing", "old": "passing"}
