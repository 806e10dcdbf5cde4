"""The rows of the table in the design's section on the registry, one test each, and what the fold does beside them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import keys
from registry.change import Change
from registry.fold import Fold
from registry.interest import BASE, EVERYTHING
from registry.model import Instance
from registry.roster import MAX_ORPHAN, MAX_SUSPECT
from registry.shelf import SETTLE
from registry.store import Alive, Batch, Entry, Lost, Resync, WatchEvent
from registry.values import MAX_DOCUMENT
from tests.unit.registry import made

WEB = frozenset({"web"})
MOVED = Change(services=WEB)
NOTHING = Change()


def states(fold: Fold, now: float) -> dict[str, str]:
    return {end.instance.id: end.state for end in fold.endpoints("web", now)}


def leases(*nodes: str) -> tuple[Entry, ...]:
    return tuple(made.entry(keys.lease(node), b"") for node in nodes)


def holding(*instances: Instance, hosts: tuple[str, ...] = ("a", "b", "c")) -> Fold:
    fold = Fold()
    fold.apply(keys.LEASES, Resync(1, leases(*hosts)), 0.0)
    fold.apply(keys.SERVICES, Resync(1, tuple(map(made.stored, instances))), 0.0)
    return fold


def document(name: str, text: bytes = b"{}", version: int = 1) -> Entry:
    return made.entry(keys.policy("service-router", name), text, version)


# ---- rows -------------------------------------------------------------------------------------------------------


def test_present_and_passing_with_a_live_lease_is_in_use() -> None:
    assert states(holding(made.instance()), 0.0) == {"web-1": "passing"}


def test_warning_is_in_use_as_warning() -> None:
    assert states(holding(made.instance(health="warning")), 0.0) == {"web-1": "warning"}


def test_critical_by_its_own_check_is_critical_with_and_without_a_lease() -> None:
    fold = holding(made.instance(health="critical"))
    assert states(fold, 0.0) == {"web-1": "critical"}
    fold.apply(keys.LEASES, Batch(2, (), (keys.lease("a"),)), 1.0)
    assert states(fold, 1.0) == {"web-1": "critical"}


@pytest.mark.parametrize("state", ["withdrawn", "maintenance"])
def test_withdrawn_and_maintained_ones_drain_at_once_whatever_the_lease(state: str) -> None:
    fold = holding(made.instance(), hosts=("a",))
    leaving = made.instance(state="withdrawn" if state == "withdrawn" else "maintenance")
    assert fold.apply(keys.SERVICES, Batch(2, (made.stored(leaving),)), 1.0) == MOVED
    assert states(fold, 1.0) == {"web-1": "draining"}
    fold.apply(keys.LEASES, Batch(3, (), (keys.lease("a"),)), 2.0)
    assert states(fold, 2.0) == {"web-1": "draining"}


def test_a_withdrawn_instance_is_gone_with_its_key() -> None:
    fold = holding(made.instance(state="withdrawn"))
    assert fold.apply(keys.SERVICES, Batch(2, (), (made.key(made.instance()),)), 1.0) == MOVED
    assert states(fold, 1.0) == {}
    assert fold.services == frozenset()


def test_a_withdrawn_instance_is_gone_with_its_key_also_when_a_listing_says_so() -> None:
    fold = holding(made.instance(state="withdrawn"), made.instance(id="web-2"))
    fold.apply(keys.SERVICES, Resync(2, (made.stored(made.instance(id="web-2")),)), 1.0)
    assert states(fold, 1.0) == {"web-2": "passing"}


def test_a_lost_lease_makes_suspects_until_max_orphan() -> None:
    fold = holding(made.instance(), made.instance(id="web-2", health="warning"), made.instance(node="b", id="web-3"))
    assert fold.apply(keys.LEASES, Batch(2, (), (keys.lease("a"),)), 10.0) == MOVED
    assert states(fold, 10.0) == {"web-1": "suspect", "web-2": "suspect", "web-3": "passing"}
    assert fold.next_deadline(11.0) == 10.0 + MAX_ORPHAN
    assert fold.expire(10.0 + MAX_ORPHAN) == MOVED
    assert states(fold, 10.0 + MAX_ORPHAN) == {"web-3": "passing"}
    assert fold.next_deadline(10.0 + MAX_ORPHAN) is None


def test_a_key_that_vanishes_unmarked_makes_a_suspect_until_max_orphan() -> None:
    fold = holding(made.instance(), made.instance(id="web-2"))
    assert fold.apply(keys.SERVICES, Batch(2, (), (made.key(made.instance()),)), 10.0) == MOVED
    assert states(fold, 10.0) == {"web-1": "suspect", "web-2": "passing"}
    assert states(fold, 10.0 + MAX_ORPHAN) == {"web-2": "passing"}
    assert fold.next_deadline(2 * MAX_ORPHAN) == 2 * MAX_ORPHAN
    assert fold.expire(2 * MAX_ORPHAN) == MOVED


def test_a_lease_that_comes_back_ends_the_doubt() -> None:
    fold = holding(made.instance())
    fold.apply(keys.LEASES, Batch(2, (), (keys.lease("a"),)), 10.0)
    assert fold.apply(keys.LEASES, Batch(3, leases("a")), 20.0) == MOVED
    assert states(fold, 20.0) == {"web-1": "passing"}
    assert fold.leases == {"a": b"", "b": b"", "c": b""}


def test_an_empty_answer_keeps_everything_as_suspect() -> None:
    fold = holding(made.instance(), made.instance(node="b", id="web-2"))
    assert fold.apply(keys.SERVICES, Resync(1, ()), 10.0) == MOVED
    assert fold.apply(keys.LEASES, Resync(1, ()), 11.0) == MOVED
    assert states(fold, 11.0) == {"web-1": "suspect", "web-2": "suspect"}


def test_most_of_a_service_vanishing_at_once_is_braked_for_a_day() -> None:
    fold = holding(*(made.instance(node=node, id=node) for node in "abc"))
    fold.apply(keys.SERVICES, Resync(2, ()), 10.0)
    assert set(states(fold, 10.0 + MAX_ORPHAN).values()) == {"suspect"}
    assert fold.next_deadline(10.0) == 10.0 + MAX_SUSPECT


@pytest.mark.parametrize("prefix", [keys.SERVICES, keys.LEASES])
def test_while_the_registry_is_unreachable_the_last_known_good_stays(prefix: str) -> None:
    fold = holding(made.instance(), made.instance(node="b", id="web-2"))
    fold.apply(keys.LEASES, Batch(2, (), (keys.lease("b"),)), 10.0)
    assert fold.apply(prefix, Lost("connection refused"), 20.0) == NOTHING
    days = 20.0 + 10 * MAX_SUSPECT
    assert states(fold, days) == {"web-1": "passing", "web-2": "suspect"}
    assert fold.next_deadline(days) is None
    assert fold.expire(days) == NOTHING
    assert fold.unreachable == {prefix: "connection refused"}
    fold.apply(prefix, Alive(2), days)
    assert fold.unreachable == {}
    assert states(fold, days) == {"web-1": "passing"}


def test_a_registry_without_policy_keeps_the_documents_until_adopted() -> None:
    fold = holding()
    fold.apply(keys.POLICY, Resync(1, (document("web"),)), 0.0)
    fold.apply(keys.CONFIG, Resync(1, (made.entry(keys.policy("mesh", "mesh"), b"{}"),)), 0.0)
    assert fold.apply(keys.POLICY, Resync(1, ()), 1.0) == NOTHING
    assert fold.apply(keys.CONFIG, Resync(1, ()), 1.0) == NOTHING
    assert set(fold.documents) == {("service-router", "web"), ("mesh", "mesh")}
    assert set(fold.held) == {keys.POLICY, keys.CONFIG}
    assert fold.adopt(2.0) == Change(documents=frozenset({("service-router", "web"), ("mesh", "mesh")}))
    assert (fold.documents, fold.held) == ({}, {})


def test_a_fifth_of_policy_gone_in_one_listing_is_held() -> None:
    fold = holding()
    fold.apply(keys.POLICY, Resync(1, tuple(document(f"d{n}") for n in range(10))), 0.0)
    assert fold.apply(keys.POLICY, Resync(2, tuple(document(f"d{n}") for n in range(6))), 1.0) == NOTHING
    assert len(fold.documents) == 10


def test_documents_gone_one_by_one_within_a_window_are_held_unless_they_were_meant() -> None:
    fold = holding()
    fold.apply(keys.POLICY, Resync(1, tuple(document(f"d{n}", version=n) for n in range(10))), 0.0)
    for number in range(4):
        fold.apply(keys.POLICY, Batch(2, (), (keys.policy("service-router", f"d{number}"),)), float(number))
        fold.settle(number + 0.5)
    names = frozenset(("service-router", f"d{number}") for number in range(4))
    assert (len(fold.documents), fold.held_documents) == (10, names)
    assert fold.unexplained == {name: number for number, name in enumerate(sorted(names))}
    assert fold.explain(dict.fromkeys(names, "meant"), 4.0) == Change(documents=names)
    assert (len(fold.documents), fold.held, fold.unexplained) == (6, {}, {})


def test_what_was_lost_during_a_restart_is_judged_too() -> None:
    before = holding()
    before.apply(keys.POLICY, Resync(1, tuple(document(f"d{n}") for n in range(10))), 0.0)
    fold = holding()
    fold.recollect(before.documents.values())
    left = tuple(document(f"d{n}", b"newer" if n == 9 else b"{}", 2) for n in range(5, 10))
    fold.apply(keys.POLICY, Resync(2, left), 1.0)
    assert fold.held_documents == {("service-router", f"d{n}") for n in range(5)}
    assert fold.documents["service-router", "d9"].text == b"newer"


def test_who_sees_little_waits_for_the_word_of_who_sees_all() -> None:
    fold, web = holding(), ("service-router", "web")
    fold.await_word(10.0)
    fold.apply(keys.POLICY, Resync(1, (document("web", version=3), document("api"))), 0.0)
    fold.apply(keys.POLICY, Batch(4, (), (keys.policy(*web),)), 1.0)
    assert (fold.settle(5.0), fold.next_settled()) == (NOTHING, 11.0)
    assert fold.explain({web: "believed"}, 6.0) == Change(documents=frozenset({web}))
    assert fold.unexplained == {web: 3}
    assert fold.explain({web: "held"}, 7.0) == Change(documents=frozenset({web}))  # a wave, recognised late
    assert (web in fold.documents, fold.held_documents) == (True, {web})
    assert fold.explain({web: "meant"}, 8.0) == Change(documents=frozenset({web}))
    assert (fold.unexplained, fold.held) == ({}, {})


def test_an_instance_that_keeps_failing_its_check_is_damped_while_others_serve() -> None:
    fold, now = holding(made.instance(), made.instance(node="b", id="web-2")), 0.0
    for _ in range(4):
        for health in ("critical", "passing"):
            now += 5.0
            fold.apply(keys.SERVICES, Batch(2, (made.stored(made.instance(health=health)),)), now)  # type: ignore[arg-type]  # one of the literals
    assert states(fold, now) == {"web-1": "damped", "web-2": "passing"}
    assert fold.damped(now) == {"web": 1}
    end = fold.next_deadline(now)
    assert end is not None
    assert fold.expire(end) == MOVED
    assert states(fold, end) == {"web-1": "passing", "web-2": "passing"}
    fold.half_life = 0.0
    assert fold.damped(now) == {}


# ---- beside the rows --------------------------------------------------------------------------------------------


def test_an_instance_that_cannot_be_read_keeps_the_last_good_and_is_named() -> None:
    fold = holding(made.instance())
    key = made.key(made.instance())
    assert fold.apply(keys.SERVICES, Batch(2, (made.entry(key, b"junk"),)), 1.0) == NOTHING
    assert fold.apply(keys.SERVICES, Resync(3, (made.entry(key, b"junk"),)), 2.0) == NOTHING
    assert states(fold, 2.0) == {"web-1": "passing"}
    assert list(fold.problems) == [key]
    fold.apply(keys.SERVICES, Batch(4, (made.stored(made.instance()),)), 3.0)
    assert fold.problems == {}


def test_one_bad_instance_in_a_listing_hides_no_other() -> None:
    fold = holding()
    bad = made.entry(keys.SERVICES + "web/a/bad", b"junk")
    assert fold.apply(keys.SERVICES, Resync(2, (bad, made.stored(made.instance()))), 1.0) == MOVED
    assert states(fold, 1.0) == {"web-1": "passing"}


@pytest.mark.parametrize("gone", [Batch(3, (), ("mesh/v1/services/nonsense",)), Resync(3, ())])
def test_a_problem_goes_with_its_key(gone: WatchEvent) -> None:
    fold = holding()
    fold.apply(keys.SERVICES, Batch(2, (made.entry("mesh/v1/services/nonsense", b"x"),)), 1.0)
    assert list(fold.problems) == ["mesh/v1/services/nonsense"]
    fold.apply(keys.SERVICES, gone, 2.0)
    assert fold.problems == {}


def test_documents_come_as_stored_with_the_version_of_their_key() -> None:
    fold = holding()
    change = fold.apply(keys.POLICY, Batch(2, (document("web", b"a: b", 17),)), 0.0)
    assert change.documents == {("service-router", "web")}
    found = fold.documents["service-router", "web"]
    assert (found.kind, found.name, found.text, found.version) == ("service-router", "web", b"a: b", 17)
    assert fold.apply(keys.POLICY, Batch(3, (), (keys.policy("service-router", "web"),)), 0.0) == NOTHING
    assert fold.next_settled() == SETTLE
    assert fold.settle(SETTLE) == change
    assert fold.documents == {}


def test_a_document_that_is_too_big_keeps_the_last_good() -> None:
    fold = holding()
    fold.apply(keys.POLICY, Batch(2, (document("web", b"good"),)), 0.0)
    assert fold.apply(keys.POLICY, Batch(3, (document("web", b"x" * (MAX_DOCUMENT + 1)),)), 0.0) == NOTHING
    assert fold.documents["service-router", "web"].text == b"good"
    assert keys.policy("service-router", "web") in fold.problems


def test_a_key_that_is_no_documents_is_a_problem() -> None:
    fold = holding()
    assert fold.apply(keys.POLICY, Batch(2, (made.entry(keys.POLICY + "nonsense", b"x"),)), 0.0) == NOTHING
    assert list(fold.problems) == [keys.POLICY + "nonsense"]


def test_roots_and_revocations_move_trust() -> None:
    fold = holding()
    assert fold.apply(keys.CA_ROOTS, Batch(1, (made.entry(keys.CA_ROOTS + "r1", b"pem"),)), 0.0) == Change(trust=True)
    revoked = made.entry(keys.REVOCATIONS + "x", b"{}")
    assert fold.apply(keys.REVOCATIONS, Batch(2, (revoked,)), 0.0) == Change(trust=True)
    assert (fold.roots, fold.revocations) == ({"r1": b"pem"}, {"x": b"{}"})
    assert fold.apply(keys.REVOCATIONS, Resync(3, ()), 0.0) == NOTHING  # a wiped store revokes no revocation
    assert fold.revocations == {"x": b"{}"}
    assert fold.adopt(2.0) == Change(trust=True)
    fold.apply(keys.REVOCATIONS, Batch(4, (made.entry(keys.REVOCATIONS + "a/b", b""),)), 0.0)
    assert fold.revocations == {}


def test_the_age_of_what_is_known_is_kept_per_selector() -> None:
    fold = Fold()
    fold.apply(keys.CONFIG, Resync(1, ()), 5.0)
    fold.apply(keys.CONFIG, Alive(1), 7.0)
    fold.apply(keys.CONFIG, Lost("away"), 9.0)
    assert fold.last_event == {keys.CONFIG: 7.0}


def test_the_picture_is_complete_when_every_prefix_was_listed() -> None:
    fold = Fold()
    for prefix in EVERYTHING:
        assert not fold.complete
        fold.apply(prefix, Resync(1, ()), 0.0)
    assert fold.complete


def test_events_of_what_is_not_wanted_are_not_taken_in() -> None:
    fold = Fold(BASE)
    assert fold.apply(keys.SERVICES, Resync(1, (made.stored(made.instance()),)), 0.0) == NOTHING
    assert not fold.instances
    assert fold.apply("elsewhere/", Resync(1, ()), 0.0) == NOTHING


def test_changes_add_up() -> None:
    assert not NOTHING
    assert MOVED | Change(trust=True) == Change(services=WEB, trust=True)
    both = Change(documents=frozenset({("a", "b")})) | Change(documents=frozenset({("c", "d")}), store=True)
    assert both == Change(documents=frozenset({("a", "b"), ("c", "d")}), store=True)


# ---- properties -------------------------------------------------------------------------------------------------

IDS = st.sampled_from("abcd")
STATES = st.sampled_from(["active", "active", "withdrawn", "maintenance", "junk", None])
STEPS = st.lists(st.tuples(IDS, STATES, st.booleans()), max_size=25)


def told(steps: list[tuple[str, str | None, bool]]) -> Fold:
    """Plays steps (instance, its new state, by a listing instead of a change) to a fold; all hosts stay live."""
    fold = holding()
    stored: dict[str, Entry] = {}
    for version, (name, state, listing) in enumerate(steps, start=2):
        known = made.instance(id=name)
        key = made.key(known)
        if state is None:
            stored.pop(key, None)
        elif state == "junk":
            stored[key] = made.entry(key, b"junk", version)
        else:
            stored[key] = made.stored(made.instance(id=name, state=state), version)  # type: ignore[arg-type]  # one of the literals
        if listing:
            event: WatchEvent = Resync(version, tuple(stored.values()))
        else:
            event = Batch(version, (stored[key],)) if key in stored else Batch(version, (), (key,))
        fold.apply(keys.SERVICES, event, float(version))
    return fold


@given(STEPS)
def test_a_listing_and_single_changes_end_in_the_same_picture(steps: list[tuple[str, str | None, bool]]) -> None:
    by_changes, by_listings = told([(*step[:2], False) for step in steps]), told([(*step[:2], True) for step in steps])
    assert states(by_changes, 100.0) == states(by_listings, 100.0) == states(told(steps), 100.0)
    assert by_changes.problems == by_listings.problems


@given(STEPS)
def test_only_a_withdrawal_takes_an_instance_away_at_once(steps: list[tuple[str, str | None, bool]]) -> None:
    last: dict[str, str] = {}
    for name, state, _ in steps:
        if state is None and last.get(name) == "withdrawn":
            del last[name]
        elif state not in (None, "junk"):
            last[name] = str(state)
    assert set(states(told(steps), 100.0)) == set(last)


@given(st.sampled_from((*EVERYTHING, keys.STORE_ID)), st.binary(max_size=50), st.binary(max_size=50))
def test_no_value_of_the_store_breaks_the_fold(prefix: str, name: bytes, value: bytes) -> None:
    fold = holding(made.instance())
    bad = made.entry(prefix + name.decode("latin-1"), value)
    for event in (Batch(2, (bad,)), Resync(3, (bad,)), Batch(4, (), (bad.key,))):
        fold.apply(prefix, event, 1.0)
    assert "web-1" in states(fold, 1.0)
