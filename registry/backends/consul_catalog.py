"""The mesh's instances as services of Consul's own catalogue, where every other tool sees them.

Two ways in. `agent`: the local Consul agent holds the registrations and keeps them in the catalogue; the mesh node is
the agent's node. `agentless`: they are written into the catalogue under the mesh node's name, which no agent owns, and
again every minute, in case somebody removes them. A withdrawal is Consul's maintenance mode, and deregistration 30 s
later. Liveness is the host's lease in both: a check that an agent times out would be the agent's word, not ours.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterable
from typing import Any, Literal

import msgspec
from consul import base  # type: ignore[import-untyped]  # the package has no types

from registry.backends import consul_service
from registry.backends.consul import MAX_WAIT
from registry.backends.consul_http import check
from registry.backends.consul_registry import ConsulRegistry
from registry.backends.consul_service import CHECK, MAINTENANCE, OURS, HealthRow
from registry.catalog import DELETE_AFTER, RETRY, KvCatalog
from registry.errors import Conflict, Corrupt, Denied, NotFound, RegistryError, Unavailable
from registry.model import Address, Instance, InstanceKey, Mesh

Mode = Literal["agent", "agentless"]

AGAIN = 60.0  # seconds between two writes of what is registered, agentless
LOOKS = 4  # how often a registration is looked for in the catalogue, and for how long each time
LOOK = 0.5  # seconds


class _Self(msgspec.Struct, frozen=True):
    Config: dict[str, Any]


class ConsulCatalog(KvCatalog):
    """`address`: the host's, agentless the node's in the catalogue. Reads go through the store's `services/`."""

    def __init__(
        self,
        registry: ConsulRegistry,
        *,
        node: str,
        address: str,
        mode: Mode,
        delete_after: float = DELETE_AFTER,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__(registry, delete_after=delete_after, clock=clock)
        self._registry = registry
        self._own_node = node
        self._address = address
        self.mode = mode
        self._agent_known = False
        self._mine: dict[InstanceKey, Instance] = {}  # as registered by us

    # ---- registry.catalog.Catalog ---------------------------------------------------------------------------------

    async def register(self, instance: Instance) -> int:
        """Raises Denied when the agent is another node's; a maintenance that somebody else switched on stays on."""
        self._leaving.pop(instance.key, None)
        await self._put(instance)
        self._mine[instance.key] = instance
        return await self._visible(instance)

    async def update(self, instance: Instance) -> int:
        before = await self.get(instance.key)
        if before is None:
            raise NotFound(f"{instance.key} is not registered")
        if before.state == "withdrawn":
            instance = msgspec.structs.replace(instance, state="withdrawn")
        await self._put(instance)
        return await self._visible(instance)

    async def withdraw(self, key: InstanceKey) -> int:
        known = self._mine.get(key) or await self.get(key)
        if known is None:
            raise NotFound(f"{key} is not registered")
        self._leave(key)
        marked = msgspec.structs.replace(known, state="withdrawn")
        await self._put(marked)
        self._mine.pop(key, None)
        return await self._visible(marked)

    async def adopt(self, instance: Instance, inbound: Address | None) -> None:
        """With an agent: its registration gets the mesh's metadata and address, its checks stay. Raises Denied."""
        if self.mode != "agent":
            return  # the node is meshd's own: no other tool registers there
        await self._check_agent()
        services: dict[str, dict[str, Any]] = await self._registry.api.http.get(_read_services, "/v1/agent/services")
        found = next((one for name, one in services.items() if consul_service.name(name) == instance.id), None)
        if found is not None:
            mesh = Mesh(upstreams=consul_service.sidecar_upstreams(services.values(), found["ID"]))
            await self._call("/v1/agent/service/register", consul_service.adopted_body(found, mesh, inbound))

    async def run(self) -> None:
        """Delete what was withdrawn, and agentless write the rest again, for ever."""
        await asyncio.gather(super().run(), self._repeat(), self._look())

    async def _look(self) -> None:
        """Which services have an instance on this host, whoever registered it: those are served too."""
        index = 0
        while self.mode == "agent":
            asked = time.monotonic()
            try:
                answer = await self._registry.services.of_node(self._own_node, index, MAX_WAIT)
            except RegistryError:
                index = 0
                await asyncio.sleep(RETRY)
                continue
            quick = answer.index == index and time.monotonic() - asked < RETRY
            index = answer.index if answer.index >= index else 0
            found = frozenset(map(consul_service.name, answer.names))
            if found != self.foreign:
                self.foreign = found
                self.on_foreign()
            if quick:
                await asyncio.sleep(RETRY)  # the server does not block: do not spin

    async def _repeat(self) -> None:
        while self.mode == "agentless":
            await asyncio.sleep(AGAIN)
            with contextlib.suppress(RegistryError):  # what stays missing is seen, and put by who registered it
                await self.repeat()

    async def repeat(self) -> None:
        """Write all that is registered here once more; what is unchanged is no write for Consul."""
        for instance in list(self._mine.values()):
            await self._put(instance)

    # ---- writes ---------------------------------------------------------------------------------------------------

    async def _put(self, instance: Instance) -> None:
        if self.mode == "agent":
            await self._put_agent(instance)
        else:
            await self._put_catalog(instance)

    async def _put_agent(self, instance: Instance) -> None:
        await self._check_agent()
        row = await self._row(instance.key)
        await self._call("/v1/agent/service/register", consul_service.agent_body(instance))
        own = CHECK + instance.id
        if instance.checks:
            health, output = consul_service.status(instance)
            await self._call(f"/v1/agent/check/update/{own}", {"Status": health, "Output": output})
        elif own in _check_ids(row):
            await self._call(f"/v1/agent/check/deregister/{own}")
        switched = consul_service.maintenance(row) if row is not None else None
        wanted = instance.state != "active"
        ours = switched is not None and switched.Notes.startswith(OURS)
        if wanted and switched is None:
            params = (("enable", "true"), ("reason", consul_service.maintenance_reason(instance)))
            await self._call(f"/v1/agent/service/maintenance/{instance.id}", None, params)
        elif ours and not wanted:
            await self._call(f"/v1/agent/service/maintenance/{instance.id}", None, (("enable", "false"),))

    async def _put_catalog(self, instance: Instance) -> None:
        row = await self._row(instance.key)
        body = consul_service.catalog_body(instance, self._address)
        switched = consul_service.maintenance(row) if row is not None else None
        if switched is not None and not switched.Notes.startswith(OURS):
            # somebody else's maintenance: it is not ours to reword or to end
            body["Checks"] = [one for one in body["Checks"] if one["CheckID"] != switched.CheckID]
        await self._call("/v1/catalog/register", body)
        wanted = {one["CheckID"] for one in body["Checks"]}
        for gone in (CHECK + instance.id, MAINTENANCE + instance.id):
            ours = switched is None or switched.CheckID != gone or switched.Notes.startswith(OURS)
            if gone in _check_ids(row) - wanted and ours:
                await self._call("/v1/catalog/deregister", {"Node": instance.node, "CheckID": gone})

    async def _delete(self, key: InstanceKey) -> bool:
        try:
            found = await self.get(key)
        except Corrupt:
            return False  # registered by a newer version of meshd
        if found is None or found.state != "withdrawn":
            return False
        try:
            await self._deregister(key)
        except (NotFound, Conflict):
            return False
        return True

    async def remove(self, key: InstanceKey) -> None:
        """Without maintenance first; what is absent is no error."""
        self._leaving.pop(key, None)
        self._mine.pop(key, None)
        with contextlib.suppress(NotFound):
            await self._deregister(key)

    async def _deregister(self, key: InstanceKey) -> None:
        if self.mode == "agent":
            await self._call(f"/v1/agent/service/deregister/{key.id}")
        else:
            await self._call("/v1/catalog/deregister", {"Node": key.node, "ServiceID": key.id})

    async def _check_agent(self) -> None:
        """An agent registers for its own node: an instance would appear under another name than its certificate's."""
        if self._agent_known:
            return
        found: _Self = await self._registry.api.http.get(_read_self, "/v1/agent/self")
        name = found.Config.get("NodeName")
        if name != self._own_node:
            raise Denied(
                f"the Consul agent is node {name}, this host is {self._own_node}: set Node to the agent's name,"
                " or Registry.Mode: agentless"
            )
        self._agent_known = True

    async def _call(self, path: str, body: object = None, params: tuple[tuple[str, str], ...] = ()) -> None:
        data = msgspec.json.encode(body) if body is not None else b""

        def read(answer: base.Response) -> None:
            if answer.code == 500 and answer.body.startswith(("Unknown service", "Unknown check")):
                raise NotFound(f"{path}: {answer.body.strip()}")
            check(answer, path)

        await self._registry.api.http.put(read, path, params=params, data=data)

    # ---- reads ----------------------------------------------------------------------------------------------------

    async def _row(self, key: InstanceKey) -> HealthRow | None:
        _, rows = await self._registry.services.rows(key.service, 0, 0.0)
        return _find(rows, key)

    async def _visible(self, instance: Instance) -> int:
        """The index at which the catalogue shows it: an agent hands it on a moment after it has answered."""
        index = 0
        for _ in range(LOOKS):
            answer, rows = await self._registry.services.rows(instance.service, index, LOOK)
            row = _find(rows, instance.key)
            if row is not None and _shows(row, instance):
                return answer.index
            index = answer.index
        return index


def _shows(row: HealthRow, instance: Instance) -> bool:
    """Whether the row says what was registered: other tools' checks and maintenance aside."""
    wanted = consul_service.service(instance)
    same = row.Service.Meta == wanted["Meta"] and row.Service.Port == instance.port
    return same and (instance.state == "active" or consul_service.maintenance(row) is not None)


def _find(rows: Iterable[HealthRow], key: InstanceKey) -> HealthRow | None:
    return next((row for row in rows if row.Node.Node == key.node and key.id == row.Service.ID), None)


def _check_ids(row: HealthRow | None) -> frozenset[str]:
    return frozenset(check.CheckID for check in (row.Checks or ())) if row is not None else frozenset()


def _read_services(answer: base.Response) -> dict[str, dict[str, Any]]:
    check(answer, "the agent's services")
    try:
        return {one["ID"]: one for one in msgspec.json.decode(answer.content, type=dict[str, dict[str, Any]]).values()}
    except (msgspec.DecodeError, KeyError) as error:
        raise Unavailable(f"/v1/agent/services: not an answer of a Consul agent: {error}") from error


def _read_self(answer: base.Response) -> _Self:
    check(answer, "the agent's own node")
    try:
        return msgspec.json.decode(answer.content, type=_Self)
    except msgspec.DecodeError as error:
        raise Unavailable(f"/v1/agent/self: not an answer of a Consul agent: {error}") from error
