"""Said once when it begins, when it grows, and when it is over."""

from meshd.control.alarms import Alarms
from registry import keys
from registry.fold import Fold
from registry.store import Batch, Resync
from tests.fakes.running import running
from tests.unit.meshd.conftest import Lines, until
from tests.unit.registry import made


def test_suspects_waves_and_flaps_are_said_once() -> None:
    fold, log = Fold(), Lines()
    alarms = Alarms(fold, log, lambda: 0.0)
    known = [made.instance(node=node, id=node) for node in "abc"]
    fold.apply(keys.LEASES, Resync(1, tuple(made.entry(keys.lease(node), b"") for node in "abc")), 0.0)
    fold.apply(keys.SERVICES, Resync(1, tuple(map(made.stored, known))), 0.0)
    alarms.look()
    assert log.lines == []
    fold.apply(keys.SERVICES, Batch(2, (), (made.key(known[0]),)), 1.0)
    alarms.look()
    alarms.look()
    assert [(level, fields) for level, _, fields in log.lines] == [("warning", {"service": "web", "instances": 1})]
    fold.apply(keys.SERVICES, Batch(3, (), (made.key(known[1]), made.key(known[2]))), 1.0)
    alarms.look()
    assert len(log.errors()) == 1
    assert "adopt" in log.errors()[0]
    fold.apply(keys.SERVICES, Batch(4, tuple(map(made.stored, known))), 2.0)
    alarms.look()
    assert log.events()[-2:] == ["no instance is suspect any more", "no instance is braked any more"]


async def test_it_looks_when_told_that_something_moved() -> None:
    fold, log = Fold(), Lines()
    alarms = Alarms(fold, log, lambda: 0.0)
    async with running(alarms.run()):
        fold.apply(keys.LEASES, Resync(1, ()), 0.0)
        fold.apply(keys.SERVICES, Resync(1, (made.stored(made.instance()),)), 0.0)
        alarms.changed()
        await until("said", lambda: log.lines)


def test_a_flapping_instance_is_named() -> None:
    fold, log = Fold(), Lines()
    alarms = Alarms(fold, log, lambda: 8.0)
    fold.apply(keys.SERVICES, Resync(1, (made.stored(made.instance(id="web-2")),)), 0.0)
    for step in range(5):
        for one in (made.instance(), made.instance(health="critical"), made.instance()):
            fold.apply(keys.SERVICES, Batch(2, (made.stored(one),)), float(step))
    alarms.look()
    assert log.lines == [("warning", "instances flap and are held back", {"service": "web", "instances": 1})]
