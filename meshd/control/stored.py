"""What the registry holds of this host's own instances, followed from the watches of its services.

The fold keeps vanished instances (callers may still use them); to put back what the store lost, a host must know what
is really there.
"""

from registry import keys, values
from registry.errors import Corrupt
from registry.model import Instance, InstanceKey
from registry.store import Batch, Resync, WatchEvent


class Stored:
    """`instances` of `node`; None until the first listing."""

    def __init__(self, node: str) -> None:
        self._node = node
        self.instances: dict[InstanceKey, Instance] | None = None

    def apply(self, selector: str, event: WatchEvent) -> bool:
        """Take in one event of a watch of services; True when something of this host may have moved."""
        if isinstance(event, Resync):
            found = (_read(entry.key, entry.value, self._node) for entry in event.entries)
            others = (one for one in (self.instances or {}).values() if not keys.covers(selector, _key(one.key)))
            self.instances = {one.key: one for one in (*others, *found) if one is not None}
            return True
        if not isinstance(event, Batch) or self.instances is None:
            return False
        moved = False
        for key in event.deletes:
            name = keys.parse_instance(key)
            if name is not None and name[1] == self._node:
                self.instances.pop(InstanceKey(*name), None)
                moved = True
        for entry in event.puts:
            one = _read(entry.key, entry.value, self._node)
            if one is not None:
                self.instances[one.key] = one
                moved = True
        return moved


def _key(key: InstanceKey) -> str:
    return keys.instance(key.service, key.node, key.id)


def _read(key: str, value: bytes, node: str) -> Instance | None:
    name = keys.parse_instance(key)
    if name is None or name[1] != node:
        return None
    try:
        return values.read_instance(key, value)
    except Corrupt:
        return None  # unreadable is as good as absent: it will be written again
