"""`DeregisterCriticalServiceAfter`: since when which check is critical, and whose time is over. Pure."""

from collections.abc import Iterable

from registry.model import CheckResult, Instance


class Overdue:
    """Times in seconds of one clock; checks are named by (instance id, check id)."""

    def __init__(self) -> None:
        self._since: dict[tuple[str, str], float] = {}

    def saw(self, instance_id: str, result: CheckResult, now: float) -> None:
        name = (instance_id, result.check_id)
        if result.status == "critical":
            self._since.setdefault(name, now)
        else:
            self._since.pop(name, None)

    def forget(self, instance_id: str) -> None:
        for name in [name for name in self._since if name[0] == instance_id]:
            del self._since[name]

    def due(self, instances: Iterable[Instance]) -> dict[str, float]:
        """When each instance is to be deregistered, by id; those whose checks allow it and are critical."""
        found: dict[str, float] = {}
        for instance in instances:
            for check in instance.checks:
                since = self._since.get((instance.id, check.check_id))
                if since is not None and check.deregister_critical_service_after:
                    at = since + check.deregister_critical_service_after
                    found[instance.id] = min(at, found.get(instance.id, at))
        return found
