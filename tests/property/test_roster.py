"""Whatever comes and goes, the endpoints that a Roster remembers are those that follow from what it knows now."""

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from registry.model import Address, Endpoint, Instance, InstanceKey
from registry.roster import Roster

NODES = st.sampled_from(("n1", "n2", "n3"))
KEYS = st.builds(InstanceKey, st.sampled_from(("api", "db")), NODES, st.sampled_from(("1", "2")))
HEALTH = st.sampled_from(("passing", "warning", "critical"))
STATE = st.sampled_from(("active", "active", "active", "withdrawn", "maintenance"))
STEP = st.one_of(
    st.tuples(st.just("put"), KEYS, HEALTH, STATE),
    st.tuples(st.just("vanish"), KEYS),
    st.tuples(st.just("lease"), NODES),
    st.tuples(st.just("silent"), NODES),
    st.tuples(st.just("leases"), st.frozensets(NODES)),
    st.tuples(st.just("later"), st.sampled_from((0.5, 5.0, 40.0))),
    st.tuples(st.just("expire")),
    st.tuples(st.just("adopt")),
)


def told(roster: Roster, step: tuple[Any, ...], now: float) -> None:
    what, *said = step
    if what == "put":
        key, health, state = said
        roster.put(
            Instance(service=key.service, node=key.node, id=key.id, address="10.0.0.1", port=80, health=health,
                     state=state, inbound=Address(address="10.0.0.1", port=15443)), now)  # fmt: skip
    elif what == "vanish":
        roster.vanish(said[0], now)
    elif what == "lease":
        roster.lease_put(said[0], b"{}", now)
    elif what == "silent":
        roster.lease_gone(said[0], now)
    elif what == "leases":
        roster.only_leases(dict.fromkeys(said[0], b"{}"), now)
    elif what == "expire":
        roster.expire(now)
        roster.calm(now)
    elif what == "adopt":
        roster.adopt(now)


def from_nothing(roster: Roster, service: str, now: float, frozen: bool) -> list[Endpoint]:
    """As it says itself of each instance, one by one."""
    ends, damped = roster._ends(service), roster.damped(service, now)
    mine = sorted(key for key in roster.instances if key.service == service)
    return [roster._endpoint(key, damped.get(key)) for key in mine if frozen or ends.get(key, now + 1) > now]


@given(st.lists(st.tuples(STEP, st.booleans()), max_size=40))
def test_what_is_remembered_is_what_follows(story: list[tuple[tuple[Any, ...], bool]]) -> None:
    roster, now = Roster(max_orphan=20.0, max_suspect=60.0), 0.0
    for step, frozen in story:
        now += step[1] if step[0] == "later" else 0.25
        told(roster, step, now)
        for service in ("api", "db"):
            found = roster.endpoints(service, now, frozen=frozen)
            assert list(found) == from_nothing(roster, service, now, frozen)
            assert roster.endpoints(service, now, frozen=frozen) is found
