"""What the instances of one service say together: which protocol, and whether one of them is meshed."""

from collections.abc import Iterable

from policies.span import moved
from policies.view import Protocol
from registry.model import Endpoint, Instance, InstanceKey


def registered(instance: Instance) -> Protocol:
    return "http" if instance.mesh.protocol == "http" else "tcp"


class Instances:
    """Kept up to date by what differs, so that one of ten thousand costs as much as one of ten. `node`: this host."""

    def __init__(self, node: str) -> None:
        self._node = node
        self._endpoints: tuple[Endpoint, ...] = ()
        self._elsewhere = {"tcp": 0, "http": 0}
        self._here: dict[InstanceKey, Protocol] = {}
        self._meshed = 0

    def update(self, endpoints: tuple[Endpoint, ...]) -> bool:
        """True when something that is asked below may be answered differently."""
        if endpoints is self._endpoints:
            return False
        before = self._summary()
        left, came = moved(self._endpoints, endpoints)
        for one in left:
            self._count(one.instance, -1)
        for one in came:
            self._count(one.instance, 1)
        self._endpoints = endpoints
        return self._summary() != before

    @property
    def meshed(self) -> bool:
        return self._meshed > 0

    def spoken(self, local: Iterable[Instance]) -> dict[Protocol, int]:
        """How many instances are registered for each protocol; `local`: the service's on this host, as they are now."""
        here = self._here | {instance.key: registered(instance) for instance in local}
        own = list(here.values())
        return {
            "tcp": self._elsewhere["tcp"] + own.count("tcp"),
            "http": self._elsewhere["http"] + own.count("http"),
        }

    def _summary(self) -> tuple[object, ...]:
        return dict(self._elsewhere), dict(self._here), self.meshed

    def _count(self, instance: Instance, step: int) -> None:
        self._meshed += step * (instance.inbound is not None)
        if instance.node != self._node:
            self._elsewhere[registered(instance)] += step
        elif step > 0:
            self._here[instance.key] = registered(instance)
        else:
            self._here.pop(instance.key, None)
