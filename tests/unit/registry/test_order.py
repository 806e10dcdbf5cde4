"""All instances in the order of their keys, and questions only about those that may have moved."""

from collections.abc import Collection

from registry.model import Endpoint, EndpointState, Instance, InstanceKey
from registry.order import Order


def endpoint(instance_id: str, state: EndpointState = "passing") -> Endpoint:
    instance = Instance(service="api", node="a", id=instance_id, address="10.0.0.1", port=80)
    return Endpoint(instance=instance, state=state)


class Said:
    """What is said of each instance, and who was asked about."""

    def __init__(self, *instance_ids: str) -> None:
        self.order = Order()
        self.now: dict[InstanceKey, Endpoint] = {}
        self.asked: list[str] = []
        for one in instance_ids:
            self.put(endpoint(one))

    def put(self, one: Endpoint) -> None:
        self.now[one.instance.key] = one
        self.order.touch(one.instance.key)

    def endpoints(self, doubtful: Collection[InstanceKey] = ()) -> tuple[Endpoint, ...]:
        self.asked.clear()
        return self.order.endpoints(self._show, doubtful)

    def _show(self, key: InstanceKey) -> Endpoint | None:
        self.asked.append(key.id)
        return self.now.get(key)


def test_in_the_order_of_their_keys_and_the_same_objects_until_they_move() -> None:
    said = Said("b", "c", "a")
    first = said.endpoints()
    assert [one.instance.id for one in first] == ["a", "b", "c"]
    assert said.endpoints() is first
    assert said.asked == []
    said.put(endpoint("b", "critical"))
    second = said.endpoints()
    assert said.asked == ["b"]
    assert [one.state for one in second] == ["passing", "critical", "passing"]
    assert second[0] is first[0]
    assert second[2] is first[2]


def test_who_is_touched_and_says_the_same_has_not_moved() -> None:
    said = Said("a", "b")
    first = said.endpoints()
    said.put(endpoint("a"))
    assert said.endpoints() is first


def test_who_is_no_longer_in_use_is_left_out() -> None:
    said = Said("a", "b", "c")
    said.endpoints()
    key = endpoint("b").instance.key
    del said.now[key]
    said.order.touch(key)
    assert [one.instance.id for one in said.endpoints()] == ["a", "c"]
    said.order.touch(key)
    assert len(said.endpoints()) == 2


def test_doubtful_ones_are_asked_about_each_time_and_once_after() -> None:
    said = Said("a", "b")
    said.endpoints()
    key = endpoint("a").instance.key
    said.now[key] = endpoint("a", "suspect")
    assert said.endpoints([key])[0].state == "suspect"
    assert said.endpoints([key]) == said.endpoints([key])
    assert said.asked == ["a"]
    said.now[key] = endpoint("a")
    assert said.endpoints()[0].state == "passing"
    assert said.asked == ["a"]
    assert said.endpoints()
    assert said.asked == []
