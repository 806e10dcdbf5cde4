from hypothesis import given
from hypothesis import strategies as st

from registry.model import Instance
from registry.roster import MAX_ORPHAN, MAX_SUSPECT, Roster
from tests.unit.registry import made


def states(roster: Roster, now: float, service: str = "web") -> dict[str, str]:
    return {end.instance.id: end.state for end in roster.endpoints(service, now, frozen=False)}


def filled(*instances: Instance, leases: tuple[str, ...] = ("a", "b", "c")) -> Roster:
    roster = Roster()
    roster.only_leases(dict.fromkeys(leases, b""), 0.0)
    for known in instances:
        roster.put(known, 0.0)
    return roster


def test_an_unchanged_instance_moves_nothing() -> None:
    roster = filled()
    assert roster.put(made.instance(), 0.0) == {"web"}
    assert roster.put(made.instance(), 0.0) == frozenset()
    assert roster.put(made.instance(health="warning"), 0.0) == {"web"}


def test_before_leases_are_listed_nobody_is_silent() -> None:
    roster = Roster()
    roster.put(made.instance(), 0.0)
    assert states(roster, MAX_ORPHAN * 10) == {"web-1": "passing"}
    assert roster.next_end() is None
    assert roster.only_leases({}, 5.0) == {"web"}
    assert states(roster, 5.0) == {"web-1": "suspect"}


def test_an_instance_of_a_host_without_a_lease_starts_as_suspect() -> None:
    roster = filled(made.instance(node="z"))
    assert states(roster, 0.0) == {"web-1": "suspect"}


def test_a_suspect_ends_once_and_comes_back_with_its_host() -> None:
    roster = filled(made.instance())
    assert roster.lease_gone("a", 10.0) == {"web"}
    assert roster.next_end() == 10.0 + MAX_ORPHAN
    assert roster.expire(10.0 + MAX_ORPHAN - 1) == frozenset()
    assert roster.expire(10.0 + MAX_ORPHAN) == {"web"}
    assert roster.expire(10.0 + MAX_ORPHAN) == frozenset()
    assert roster.next_end() is None
    assert states(roster, 10.0 + MAX_ORPHAN) == {}
    assert roster.lease_put("a", b"", 0.0) == {"web"}
    assert states(roster, 11.0 + MAX_ORPHAN) == {"web-1": "passing"}
    assert roster.lease_gone("a", 5000.0) == {"web"}
    assert roster.next_end() == 5000.0 + MAX_ORPHAN


def test_a_vanished_key_is_forgotten_at_its_end() -> None:
    roster = filled(made.instance())
    key = made.instance().key
    assert roster.vanish(key, 10.0) == {"web"}
    assert roster.vanish(key, 20.0) == frozenset()
    assert states(roster, 10.0) == {"web-1": "suspect"}
    assert roster.expire(10.0 + MAX_ORPHAN) == {"web"}
    assert (roster.instances, roster.services(), roster.next_end()) == ({}, frozenset(), None)


def test_a_key_that_comes_back_is_no_longer_in_doubt() -> None:
    roster = filled(made.instance())
    roster.vanish(made.instance().key, 10.0)
    assert roster.put(made.instance(), 20.0) == {"web"}
    assert states(roster, 20.0 + MAX_ORPHAN) == {"web-1": "passing"}


def test_doubt_counts_from_the_first_reason() -> None:
    roster = filled(made.instance())
    roster.lease_gone("a", 10.0)
    roster.vanish(made.instance().key, 100.0)
    assert roster.next_end() == 10.0 + MAX_ORPHAN


def test_a_lease_that_nobody_lives_by_moves_nothing() -> None:
    roster = filled(made.instance())
    assert roster.lease_put("z", b"", 0.0) == frozenset()
    assert roster.lease_gone("z", 0.0) == frozenset()
    assert roster.lease_gone("never", 0.0) == frozenset()


def test_a_wave_is_held_longer_than_a_single_loss() -> None:
    many = [made.instance(node=node, id=f"web-{node}") for node in "abc"]
    roster = filled(*many)
    for known in many:
        roster.vanish(known.key, 10.0)
    assert set(states(roster, 10.0 + MAX_ORPHAN)) == {"web-a", "web-b", "web-c"}
    assert roster.next_end() == 10.0 + MAX_SUSPECT
    roster.put(many[0], 20.0)  # the wave is none any more: two are left in doubt
    assert states(roster, 10.0 + MAX_ORPHAN) == {"web-a": "passing"}


def test_withdrawn_instances_are_no_part_of_a_wave() -> None:
    roster = filled(
        made.instance(node="a", id="1", state="withdrawn"),
        made.instance(node="b", id="2", state="withdrawn"),
        made.instance(node="c", id="3"),
    )
    roster.only_leases({}, 10.0)
    assert roster.next_end() == 10.0 + MAX_ORPHAN


def test_out_of_contact_nothing_ends() -> None:
    roster = filled(made.instance())
    roster.lease_gone("a", 0.0)
    assert [end.state for end in roster.endpoints("web", MAX_SUSPECT * 2, frozen=True)] == ["suspect"]


STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "vanish", "lease", "silent", "withdraw", "expire"]), st.sampled_from("abc")),
    max_size=30,
)


@given(STEPS)
def test_no_instance_that_stands_in_the_registry_with_a_live_host_is_ever_in_doubt(
    steps: list[tuple[str, str]],
) -> None:
    roster, now = filled(leases=()), 0.0
    listed: dict[str, str] = {}
    live: set[str] = set()
    for step, node in steps:
        now += 100.0
        known = made.instance(node=node, id=node)
        if step == "put":
            roster.put(known, now)
            listed[node] = "passing"
        elif step == "withdraw":
            roster.put(made.instance(node=node, id=node, state="withdrawn"), now)
            listed[node] = "draining"
        elif step == "vanish":
            roster.vanish(known.key, now)
            listed.pop(node, None)
        elif step == "lease":
            roster.lease_put(node, b"", 0.0)
            live.add(node)
        elif step == "silent":
            roster.lease_gone(node, now)
            live.discard(node)
        else:
            roster.expire(now)
        found = states(roster, now)
        for name, state in listed.items():
            if name in live:
                assert found[name] == state
        for name, state in found.items():
            assert (name in listed and name in live) or state in ("suspect", "draining")


# ---- flapping ---------------------------------------------------------------------------------------------------


def test_leases_that_come_and_go_damp_their_instances_while_others_serve() -> None:
    roster = filled(made.instance(), made.instance(node="b", id="web-2"))
    for now in range(0, 40, 10):
        roster.lease_gone("a", float(now))
        roster.lease_put("a", b"", now + 5.0)
    assert states(roster, 36.0) == {"web-1": "damped", "web-2": "passing"}
    found = roster.endpoints("web", 36.0, frozen=False)[0]
    assert found.flaps == 4
    assert found.damped_until > 36.0
    assert roster.calm(found.damped_until) == {"web"}
    assert states(roster, found.damped_until) == {"web-1": "passing", "web-2": "passing"}


def test_keys_that_come_and_go_damp_and_another_registration_ends_it() -> None:
    roster, known = filled(made.instance(), made.instance(node="b", id="web-2")), made.instance()
    for now in range(0, 40, 10):
        roster.vanish(known.key, float(now))
        roster.put(known, now + 5.0)
    assert states(roster, 36.0)["web-1"] == "damped"
    roster.put(made.instance(tags=("v2",)), 37.0)
    assert states(roster, 37.0)["web-1"] == "passing"


def test_withdrawing_a_damped_instance_is_shown_and_ends_it() -> None:
    roster, known = filled(made.instance(), made.instance(node="b", id="web-2")), made.instance()
    for now in range(0, 40, 10):
        roster.vanish(known.key, float(now))
        roster.put(known, now + 5.0)
    roster.put(made.instance(state="withdrawn"), 36.0)
    assert states(roster, 36.0)["web-1"] == "draining"
    roster.put(known, 37.0)
    assert states(roster, 37.0)["web-1"] == "passing"


def test_a_registry_that_keeps_losing_all_leases_damps_nobody() -> None:
    many = [made.instance(node=node, id=f"web-{node}") for node in "abc"]
    roster = filled(*many)
    for now in range(0, 100, 10):
        roster.only_leases({}, float(now))
        for node in "abc":
            roster.lease_put(node, b"", now + 5.0)
    assert set(states(roster, 100.0).values()) == {"passing"}
