"""Flap damping: an instance that keeps coming and going is held back until it has been calm. Pure.

As routers damp routes (RFC 2439): every flap costs one penalty, penalties halve every half-life; above `SUPPRESS` the
instance is held back until its penalty has fallen to `REUSE`, at most `LONGEST` half-lives after its last flap. The
thresholds are those that RFC 7196 found harmless for what is well-behaved. A flap is counted when an instance that had
been in use comes back into use, so that one outage is one flap however many signs of it there were.

Never more than half of a service's usable instances are held back, those with the highest penalties: where most of a
service flaps, the fault is not an instance's.
"""

import math
from collections.abc import Collection, Mapping

import msgspec

from registry.model import EndpointState, InstanceKey

HALF_LIFE = 60.0  # seconds
SUPPRESS = 3.0  # flaps: the fourth of a quick series
REUSE = 0.75
LONGEST = 4.0  # half-lives
CEILING = REUSE * 2**LONGEST
FORGET = REUSE / 2  # RFC 2439, 4.2: below half of the reuse threshold nothing is remembered
MAX_SHARE = 0.5  # of the usable instances
IN_USE = frozenset(("passing", "warning"))


class Flaps(msgspec.Struct, frozen=True):
    """What is held against an instance: `penalty` as it was at `at` (seconds); `count` flaps since it was forgotten."""

    penalty: float
    at: float
    count: int = 1
    damped: bool = False


def flapped(before: Flaps | None, now: float, half_life: float) -> Flaps:
    """After one more flap."""
    if before is None:
        return Flaps(1.0, now)
    penalty = min(CEILING, penalty_at(before, now, half_life) + 1.0)
    still = before.damped and now < reuse_at(before, half_life)
    return Flaps(penalty, now, before.count + 1, still or penalty > SUPPRESS)


def penalty_at(known: Flaps, now: float, half_life: float) -> float:
    """`half_life` 0 damps nothing: every penalty is over at once."""
    return known.penalty * 2 ** (-max(0.0, now - known.at) / half_life) if half_life > 0 else 0.0


def reuse_at(known: Flaps, half_life: float) -> float:
    """When the penalty has fallen to `REUSE`; in the past for what was never damped or is over."""
    return known.at + half_life * math.log2(known.penalty / REUSE) if half_life > 0 else known.at


def is_damped(known: Flaps, now: float, half_life: float) -> bool:
    return known.damped and now < reuse_at(known, half_life)


def is_over(known: Flaps, now: float, half_life: float) -> bool:
    """Nothing of it needs to be remembered."""
    return penalty_at(known, now, half_life) < FORGET


def held_back(wanted: Mapping[InstanceKey, Flaps], usable: int) -> frozenset[InstanceKey]:
    """Which of the damped instances are really held back. `usable`: instances in use if none were, these included."""
    order = sorted(wanted, key=lambda key: (-wanted[key].penalty, wanted[key].at, key))
    return frozenset(order[: int(usable * MAX_SHARE)])


class Tracker:
    """What each instance did. Feed it every state that an instance takes; times in seconds."""

    def __init__(self) -> None:
        self.half_life = HALF_LIFE  # 0: nothing is damped
        self._up: dict[InstanceKey, bool] = {}  # those that were in use once: are they now?
        self._flaps: dict[InstanceKey, Flaps] = {}

    def seen(self, key: InstanceKey, state: EndpointState, now: float, *, excused: bool) -> None:
        """`excused`: it was away for a reason that is not its own."""
        if state == "draining":
            self.forget(key)  # its operator's word: what it does from here on is a new story
        elif state not in IN_USE:
            if key in self._up:
                self._up[key] = False
        else:
            if not self._up.get(key, True) and not excused:
                self._flaps[key] = flapped(self._flaps.get(key), now, self.half_life)
            self._up[key] = True

    def forgive(self, key: InstanceKey) -> None:
        """It was registered anew."""
        self._flaps.pop(key, None)

    def forget(self, key: InstanceKey) -> None:
        self._flaps.pop(key, None)
        self._up.pop(key, None)

    def damps(self, service: str, now: float) -> bool:
        """Whether one of the service's instances would be held back now, were it usable."""
        return any(
            one.damped and key.service == service and is_damped(one, now, self.half_life)
            for key, one in self._flaps.items()
        )

    def damped(self, usable: Collection[InstanceKey], now: float) -> Mapping[InstanceKey, Flaps]:
        """Which of a service's usable instances are held back now."""
        known = ((key, self._flaps[key]) for key in usable if key in self._flaps)
        wanted = {key: one for key, one in known if is_damped(one, now, self.half_life)}
        return {key: wanted[key] for key in held_back(wanted, len(usable))} if wanted else {}

    def services(self) -> frozenset[str]:
        """Those with a damped instance, whether it is held back or not."""
        return frozenset(key.service for key, one in self._flaps.items() if one.damped)

    def until(self, known: Flaps) -> float:
        return reuse_at(known, self.half_life)

    def next_end(self) -> float | None:
        """When the next instance has been calm for long enough; None: there is none."""
        return min((self.until(one) for one in self._flaps.values() if one.damped), default=None)

    def expire(self, now: float) -> frozenset[InstanceKey]:
        """Those that are calm now, said once; what is long over is forgotten."""
        calm = {key for key, one in self._flaps.items() if one.damped and self.until(one) <= now}
        for key in calm:
            self._flaps[key] = msgspec.structs.replace(self._flaps[key], damped=False)
        for key in [key for key, one in self._flaps.items() if not one.damped and is_over(one, now, self.half_life)]:
            del self._flaps[key]
        return frozenset(calm)
