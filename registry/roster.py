"""Which instances callers may use now: the registry's word and the hosts' leases, folded. Pure.

An instance is *absent* when its host's lease is gone or when its key vanished without the mark of a withdrawal. That
is a doubt about the registry or the host, not about the instance: it stays in use as `suspect` (the proxies ask it)
until nobody has vouched for it for `max_orphan` seconds, or `max_suspect` when a whole wave went (`brake`).

An instance that keeps falling out of use and coming back is *damped* for a while (`flap`). What went away in a wave
is not held against it, and any word of its operator (withdrawal, maintenance, another registration) ends it at once.
"""

from collections.abc import Collection, Iterable, Mapping

import msgspec

from registry import brake, flap
from registry.model import Endpoint, EndpointState, Instance, InstanceKey
from registry.order import Order

MAX_ORPHAN = 15 * 60.0  # seconds
MAX_SUSPECT = 24 * 3600.0


class Roster:
    """Methods that change something return the services whose endpoints may have moved. Times in seconds."""

    def __init__(self, *, max_orphan: float = MAX_ORPHAN, max_suspect: float = MAX_SUSPECT) -> None:
        self.instances: dict[InstanceKey, Instance] = {}
        self.leases: dict[str, bytes] = {}
        self.limits = brake.DEFAULT
        self.flaps = flap.Tracker()
        self._max_orphan = max_orphan
        self._max_suspect = max_suspect
        self._by_service: dict[str, set[InstanceKey]] = {}
        self._by_node: dict[str, set[InstanceKey]] = {}
        self._orders: dict[str, Order] = {}
        self._vanished: dict[InstanceKey, float] = {}  # since when the key is gone
        self._silent: dict[str, float] = {}  # nodes, since when the lease is gone
        self._leases_known = False
        self._expired: set[InstanceKey] = set()  # those whose end was already reported
        self._unjudged: set[str] = set()  # services with new absences, not yet looked at for a wave
        self._excused: set[InstanceKey] = set()  # absent in a wave: their coming back is no flap

    # ---- what the registry says ---------------------------------------------------------------------------------

    def put(self, instance: Instance, now: float) -> frozenset[str]:
        key = instance.key
        if key in self._vanished:
            self._excuse()
        before = self.instances.get(key)
        back = self._vanished.pop(key, None) is not None
        self.instances[key] = instance
        self._orders.setdefault(key.service, Order()).touch(key)
        self._by_service.setdefault(key.service, set()).add(key)
        self._by_node.setdefault(key.node, set()).add(key)
        if self._leases_known and key.node not in self.leases:
            self._silent.setdefault(key.node, now)
        if back:
            self._expired.discard(key)
        if not back and before == instance:
            return frozenset()
        if before is not None and _definition(before) != _definition(instance):
            self.flaps.forgive(key)
        self._note((key,), now)
        return frozenset({key.service})

    def vanish(self, key: InstanceKey, now: float) -> frozenset[str]:
        """The key is gone: on purpose if it was marked, by accident otherwise."""
        known = self.instances.get(key)
        if known is None or key in self._vanished:
            return frozenset()
        if known.state == "withdrawn":
            self._forget(key)
        else:
            self._vanished[key] = now
            self._note((key,), now)
        return frozenset({key.service})

    def only(self, present: Collection[InstanceKey], now: float, service: str = "") -> frozenset[str]:
        """A whole listing, of one service if it is named: every key that it does not hold has vanished."""
        known = self._by_service.get(service, set()) if service else self.instances.keys()
        missing = known - set(present)
        return frozenset[str]().union(*(self.vanish(key, now) for key in missing))

    def lease_put(self, node: str, value: bytes, now: float) -> frozenset[str]:
        self.leases[node] = value
        if node not in self._silent:
            return frozenset()
        self._excuse()
        del self._silent[node]
        mine = self._by_node.get(node, set())
        self._expired -= {key for key in mine if key not in self._vanished}
        self._note(mine, now)
        return _services(mine)

    def lease_gone(self, node: str, now: float) -> frozenset[str]:
        if self.leases.pop(node, None) is None or node not in self._by_node:
            return frozenset()
        self._silent.setdefault(node, now)
        self._note(self._by_node[node], now)
        return _services(self._by_node[node])

    def only_leases(self, present: Mapping[str, bytes], now: float) -> frozenset[str]:
        """A whole listing of leases. Before the first one nothing is known, and nobody is called silent."""
        self._leases_known = True
        moved = frozenset[str]().union(*(self.lease_put(node, value, now) for node, value in present.items()))
        for node in self.leases.keys() - present.keys():
            moved |= self.lease_gone(node, now)
        for node in self._by_node.keys() - present.keys() - self._silent.keys():
            self._silent[node] = now
            self._note(self._by_node[node], now)
            moved |= _services(self._by_node[node])
        return moved

    def drop(self, service: str) -> None:
        """Nobody asks for the service any more: forget it without a word about its instances."""
        for key in list(self._by_service.get(service, ())):
            self._forget(key)

    @property
    def vanished(self) -> Collection[InstanceKey]:
        """Keys that are gone although nobody withdrew them."""
        return self._vanished.keys()

    # ---- what follows from it -----------------------------------------------------------------------------------

    def endpoints(self, service: str, now: float, *, frozen: bool) -> tuple[Endpoint, ...]:
        """In the order of their keys. `frozen`: the registry is out of reach, so no doubt grows old."""
        order = self._orders.get(service)
        if order is None:
            return ()
        ends = self._ends(service)
        damped = self.damped(service, now)

        def show(key: InstanceKey) -> Endpoint | None:
            used = key in self.instances and (frozen or ends.get(key, now + 1) > now)
            return self._endpoint(key, damped.get(key)) if used else None

        return order.endpoints(show, ends.keys() | damped.keys())

    def _endpoint(self, key: InstanceKey, flaps: flap.Flaps | None) -> Endpoint:
        if flaps is None:
            return Endpoint(instance=self.instances[key], state=self._state(key))
        return Endpoint(
            instance=self.instances[key], state="damped", flaps=flaps.count, damped_until=self.flaps.until(flaps)
        )

    def damped(self, service: str, now: float) -> Mapping[InstanceKey, flap.Flaps]:
        """Instances that would be in use if they had not flapped."""
        if not self.flaps.damps(service, now):
            return {}  # without a look at all of them
        mine = self._by_service.get(service, set())
        return self.flaps.damped([key for key in mine if self._state(key) in flap.IN_USE], now)

    def services(self) -> frozenset[str]:
        return frozenset(self._by_service)

    def next_end(self) -> float | None:
        """When the next absent instance ends that has not been reported; None: there is none."""
        ends = (end for service in self._absent_services() for end in self._pending(service).values())
        return min(ends, default=None)

    def braked(self) -> dict[str, int]:
        """By service: how many absent instances stay in use because too many went at once."""
        found = {}
        for service in self._absent_services():
            held = self._held(service, self._absent(service)) - self._expired
            if held:
                found[service] = len(held)
        return found

    def suspects(self) -> dict[str, int]:
        """By service: how many instances are in use although nobody vouches for them."""
        found = {}
        for service in self._absent_services():
            count = sum(self._state(key) == "suspect" for key in self._by_service[service] - self._expired)
            if count:
                found[service] = count
        return found

    def adopt(self, now: float) -> frozenset[str]:
        """An operator says that what is absent was meant to go: no doubt keeps it in use any more."""
        moved = self._absent_services()
        for key in list(self._vanished):
            self._forget(key)
        for node in self._silent:
            self._silent[node] = now - self._max_suspect
        return moved

    def expire(self, now: float) -> frozenset[str]:
        """Report what has ended by now, once, and forget instances whose key is gone."""
        moved: set[str] = set()
        for service in self._absent_services():
            due = [key for key, end in self._pending(service).items() if end <= now]
            for key in due:
                moved.add(service)
                if key in self._vanished:
                    self._forget(key)
                else:
                    self._expired.add(key)
        return frozenset(moved)

    def calm(self, now: float) -> frozenset[str]:
        """Report whose damping has ended by now, once."""
        return _services(self.flaps.expire(now))

    def _pending(self, service: str) -> dict[InstanceKey, float]:
        return {key: end for key, end in self._ends(service).items() if key not in self._expired}

    def _ends(self, service: str) -> dict[InstanceKey, float]:
        """When each absent instance of the service goes out of use."""
        absent = self._absent(service)
        held = self._held(service, absent)
        return {key: since + (self._max_suspect if key in held else self._max_orphan) for key, since in absent.items()}

    def _absent(self, service: str) -> dict[InstanceKey, float]:
        silent = (self._by_node.get(node, set()) for node in self._silent)
        mine = {key for keys in (self._vanished, *silent) for key in keys if key.service == service}
        return {key: since for key in mine if (since := self._absent_since(key)) is not None}

    def _held(self, service: str, absent: Mapping[InstanceKey, float]) -> frozenset[InstanceKey]:
        believed = {key: since for key, since in absent.items() if self.instances[key].state != "withdrawn"}
        if len(believed) < brake.MIN_INSTANCES:
            return frozenset()
        return brake.braked(len(self._by_service[service]), believed, self.limits)

    def _note(self, moved: Iterable[InstanceKey], now: float) -> None:
        """Their state may be another one now."""
        for key in moved:
            state = self._state(key)
            self.flaps.seen(key, state, now, excused=key in self._excused)
            if state == "suspect":
                self._unjudged.add(key.service)
            else:
                self._excused.discard(key)

    def _excuse(self) -> None:
        """Before anyone comes back: who of the absent went in a wave?"""
        for service in self._unjudged & self._by_service.keys():
            self._excused |= self._held(service, self._absent(service))
        self._unjudged.clear()

    def _state(self, key: InstanceKey) -> EndpointState:
        instance = self.instances[key]
        if instance.state != "active":
            return "draining"
        if instance.health == "critical":
            return "critical"
        return instance.health if self._absent_since(key) is None else "suspect"

    def _absent_since(self, key: InstanceKey) -> float | None:
        # only a meshed host holds a lease; for others Consul's own checks speak
        silent = self._silent.get(key.node) if self.instances[key].inbound is not None else None
        doubts = [t for t in (self._vanished.get(key), silent) if t is not None]
        return min(doubts, default=None)

    def _absent_services(self) -> frozenset[str]:
        silent = (self._by_node.get(node, set()) for node in self._silent)
        return _services(self._vanished).union(*map(_services, silent)) & self._by_service.keys()

    def _forget(self, key: InstanceKey) -> None:
        del self.instances[key]
        self._orders[key.service].touch(key)
        self._vanished.pop(key, None)
        self._expired.discard(key)
        self._excused.discard(key)
        self.flaps.forget(key)
        for index, name in ((self._by_service, key.service), (self._by_node, key.node)):
            index[name].discard(key)
            if not index[name]:
                del index[name]
        if key.service not in self._by_service:
            del self._orders[key.service]
        if key.node not in self._by_node:
            self._silent.pop(key.node, None)


def _definition(instance: Instance) -> Instance:
    """What its operator says of it, without what its checks say."""
    return msgspec.structs.replace(instance, health="passing", results=())


def _services(instances: Iterable[InstanceKey]) -> frozenset[str]:
    return frozenset(key.service for key in instances)
