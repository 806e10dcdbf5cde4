"""When too much vanishes at once: is that the mesh, or is it the registry? Pure.

Instances that leave on purpose are marked first (`state` withdrawn) and never come here.
"""

from collections.abc import Collection, Mapping

import msgspec

from registry.model import InstanceKey

MIN_INSTANCES = 3
MIN_NODES = 2
MAX_REMOVAL_PERCENT = 50.0
WINDOW = 60.0  # seconds
MIN_DOCUMENTS = 3
DOCUMENTS_PERCENT = 20.0


class Limits(msgspec.Struct, frozen=True):
    """`Registry{MaxRemovalPercent, Window}` of the mesh document; `window` in seconds."""

    percent: float = MAX_REMOVAL_PERCENT
    window: float = WINDOW


DEFAULT = Limits()


def braked(total: int, missing: Mapping[InstanceKey, float], limits: Limits = DEFAULT) -> frozenset[InstanceKey]:
    """Which of a service's missing instances went in a wave that is too big to believe.

    `total`: all its instances, missing ones too; `missing`: since when, in seconds. A wave is what went within the
    window: at least 3 instances on at least 2 nodes and more than the percentage of the service.
    """
    order = sorted(missing, key=lambda key: (missing[key], key))
    held: set[InstanceKey] = set()
    first = 0
    for last, key in enumerate(order):
        while missing[key] - missing[order[first]] > limits.window:
            first += 1
        wave = order[first : last + 1]
        if _too_big(wave, total, limits.percent):
            held.update(wave)
    return frozenset(held)


def documents_held(before: int, gone: int) -> bool:
    """More than 3 documents and more than a fifth of all: held until somebody says that it was meant."""
    return gone > MIN_DOCUMENTS and gone * 100.0 > before * DOCUMENTS_PERCENT


def _too_big(wave: Collection[InstanceKey], total: int, percent: float) -> bool:
    nodes = {key.node for key in wave}
    return len(wave) >= MIN_INSTANCES and len(nodes) >= MIN_NODES and len(wave) * 100.0 > total * percent
