"""The host's agent as a fake that behaves: instances in a dict, written through a Catalog."""

from collections.abc import Mapping

import msgspec

from registry.api.agent import CheckState, Info
from registry.api.registration import Registration
from registry.catalog import Catalog
from registry.errors import NotFound
from registry.model import Check, CheckResult, Health, Instance

ORDER: tuple[Health, ...] = ("passing", "warning", "critical")


class FakeAgent:
    """A `registry.api.agent.Agent` without health checking: checks say what they are told."""

    def __init__(self, catalog: Catalog, node: str, address: str = "127.0.0.1") -> None:
        self._catalog = catalog
        self._node = node
        self._address = address
        self._instances: dict[str, Instance] = {}
        self._results: dict[str, CheckResult] = {}
        self.registered: list[Registration] = []

    async def register(self, registration: Registration, replace_checks: bool) -> int:
        self.registered.append(registration)
        old = self._instances.get(registration.id)
        kept = old.checks if old is not None and not replace_checks else ()
        named = {check.check_id: check for check in (*kept, *registration.checks)}
        instance = Instance(
            service=registration.service,
            node=self._node,
            id=registration.id,
            address=registration.address or self._address,
            port=registration.port,
            tags=registration.tags,
            meta=registration.meta,
            weights=registration.weights,
            mesh=registration.mesh,
            checks=tuple(named.values()),
        )
        return await self._store(instance)

    async def deregister(self, instance_id: str) -> int:
        instance = self._instance(instance_id)
        del self._instances[instance_id]
        return await self._catalog.withdraw(instance.key)

    async def maintenance(self, instance_id: str, enable: bool, reason: str) -> int:
        instance = self._instance(instance_id)
        state: str = "maintenance" if enable else "active"
        return await self._store(msgspec.structs.replace(instance, state=state, reason=reason if enable else ""))

    async def check_update(self, check_id: str, status: Health, output: str) -> int:
        state = self.checks().get(check_id)
        if state is None or not state.check.ttl:
            raise NotFound(f"no TTL check {check_id}")
        self._results[check_id] = CheckResult(check_id=check_id, status=status, output=output)
        return await self._store(state.instance)

    async def check_register(self, instance_id: str, check: Check) -> int:
        instance = self._instance(instance_id)
        others = tuple(c for c in instance.checks if c.check_id != check.check_id)
        return await self._store(msgspec.structs.replace(instance, checks=(*others, check)))

    async def check_deregister(self, check_id: str) -> int:
        state = self.checks().get(check_id)
        if state is None:
            raise NotFound(f"no check {check_id}")
        left = tuple(c for c in state.instance.checks if c.check_id != check_id)
        return await self._store(msgspec.structs.replace(state.instance, checks=left))

    def services(self) -> Mapping[str, Instance]:
        return self._instances

    def checks(self) -> Mapping[str, CheckState]:
        return {c.check_id: CheckState(i, c, self._result(c)) for i in self._instances.values() for c in i.checks}

    def info(self) -> Info:
        return Info(node=self._node, address=self._address, version="1.8.7", server=True, config={"Bind": "none"})

    async def _store(self, instance: Instance) -> int:
        results = tuple(self._result(check) for check in instance.checks)
        worst: Health = max((r.status for r in results), key=ORDER.index, default="passing")
        instance = msgspec.structs.replace(instance, results=results, health=worst)
        self._instances[instance.id] = instance
        return await self._catalog.register(instance)

    def _instance(self, instance_id: str) -> Instance:
        if instance_id not in self._instances:
            raise NotFound(f"no instance {instance_id}")
        return self._instances[instance_id]

    def _result(self, check: Check) -> CheckResult:
        return self._results.get(check.check_id, CheckResult(check_id=check.check_id, status=check.status))
