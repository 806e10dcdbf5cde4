"""What the registry holds of this host."""

from meshd.control.stored import Stored
from registry import keys, values
from registry.model import Instance
from registry.store import Alive, Batch, Entry, Resync

WEB = Instance(service="web", node="a", id="1", address="10.0.0.1", port=80)
OTHER = Instance(service="web", node="b", id="1", address="10.0.0.2", port=80)


def entry(instance: Instance, value: bytes | None = None) -> Entry:
    key = keys.instance(instance.service, instance.node, instance.id)
    return Entry(key=key, value=value or values.write(instance), version=1, created=1)


def test_only_this_hosts_instances_count() -> None:
    stored = Stored("a")
    assert stored.apply(keys.SERVICES, Resync(1, (entry(WEB), entry(OTHER))))
    assert stored.instances == {WEB.key: WEB}
    assert not stored.apply(keys.SERVICES, Batch(2, puts=(entry(OTHER),)))


def test_deletions_and_writes_move_it() -> None:
    stored = Stored("a")
    stored.apply(keys.SERVICES, Resync(1, ()))
    assert stored.apply(keys.SERVICES, Batch(2, puts=(entry(WEB),)))
    assert stored.apply(keys.SERVICES, Batch(3, deletes=(entry(WEB).key,)))
    assert stored.instances == {}
    assert not stored.apply(keys.SERVICES, Alive(4))


def test_nothing_is_known_before_the_first_listing() -> None:
    stored = Stored("a")
    assert not stored.apply(keys.SERVICES, Batch(1, puts=(entry(WEB),)))
    assert stored.instances is None


def test_an_unreadable_entry_counts_as_absent() -> None:
    stored = Stored("a")
    stored.apply(keys.SERVICES, Resync(1, (entry(WEB, b"{"),)))
    assert stored.instances == {}


def test_a_listing_of_one_service_says_nothing_of_another() -> None:
    stored = Stored("a")
    api = Instance(service="api", node="a", id="2", address="10.0.0.1", port=80)
    stored.apply("mesh/v1/services/web/", Resync(1, (entry(WEB),)))
    stored.apply("mesh/v1/services/api/", Resync(2, (entry(api),)))
    assert stored.instances == {WEB.key: WEB, api.key: api}
    stored.apply("mesh/v1/services/web/", Resync(3, ()))
    assert stored.instances == {api.key: api}
