"""What a service's instances say together, counted by what differs."""

import msgspec

from policies.instances import Instances
from registry.model import Mesh
from tests.unit.policies.build import endpoint, instance

HTTP = Mesh(protocol="http")


def test_counts_follow_who_comes_and_goes() -> None:
    known = Instances("a")
    one, two = endpoint(instance("api", mesh=HTTP)), endpoint(instance("api", instance_id="2", inbound=None))
    assert known.update((one, two))
    assert known.spoken(()) == {"tcp": 1, "http": 1}
    assert known.meshed
    assert known.update((two,))
    assert known.spoken(()) == {"tcp": 1, "http": 0}
    assert not known.meshed


def test_a_state_alone_changes_no_answer() -> None:
    known, one = Instances("a"), endpoint(instance("api"))
    assert known.update((one,))
    assert not known.update((one,))
    assert not known.update((msgspec.structs.replace(one, state="critical"),))


def test_what_this_host_runs_counts_as_it_is_now() -> None:
    stale = endpoint(instance("api", node="a"))
    known = Instances("a")
    known.update((stale, endpoint(instance("api", node="b"))))
    assert known.spoken(()) == {"tcp": 2, "http": 0}
    assert known.spoken((instance("api", node="a", mesh=HTTP),)) == {"tcp": 1, "http": 1}
