"""The store says who it is before its word counts."""

from meshd.control.gate import PATIENCE, Gate
from registry import keys
from registry.store import Lost, Resync

ID = (keys.STORE_ID, Resync(1, ()))
POLICY = (keys.POLICY, Resync(1, ()))
SERVICES = (keys.SERVICES, Resync(2, ()))


def test_events_wait_for_the_id_and_follow_it_in_order() -> None:
    gate = Gate()
    assert gate.admit(*POLICY, 0.0) == []
    assert gate.admit(*SERVICES, 0.1) == []
    assert gate.deadline() == PATIENCE
    assert gate.admit(*ID, 0.2) == [ID, POLICY, SERVICES]
    assert gate.deadline() is None
    assert gate.admit(*POLICY, 0.3) == [POLICY]


def test_after_a_loss_they_wait_again() -> None:
    gate = Gate()
    gate.admit(*ID, 0.0)
    lost = (keys.STORE_ID, Lost("gone"))
    assert gate.admit(*lost, 1.0) == [lost]
    assert gate.admit(*POLICY, 2.0) == []
    assert gate.admit(*ID, 2.1) == [ID, POLICY]


def test_a_loss_is_never_held_back() -> None:
    lost = (keys.POLICY, Lost("gone"))
    assert Gate().admit(*lost, 0.0) == [lost]


def test_a_silent_id_does_not_keep_the_rest_away() -> None:
    gate = Gate()
    gate.admit(*POLICY, 0.0)
    assert gate.overdue(PATIENCE / 2) == []
    assert gate.overdue(PATIENCE) == [POLICY]
    assert gate.admit(*SERVICES, PATIENCE + 1) == [SERVICES]


def test_a_forbidden_id_is_not_waited_for() -> None:
    gate = Gate()
    gate.admit(*POLICY, 0.0)
    denied = (keys.STORE_ID, Lost("Denied: ACL"))
    assert gate.admit(*denied, 0.1) == [denied, POLICY]
