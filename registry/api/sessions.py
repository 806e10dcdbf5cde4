"""`/v1/session/`: Consul's sessions are leases of the store. https://developer.hashicorp.com/consul/api-docs/session

A session's node is kept in the name of its lease (`<node>/<name>`): a joined host may renew and end its own only.
"""

from typing import Any

from aiohttp import web

from registry import durations
from registry.api import answers, fields
from registry.api.access import Action
from registry.api.answers import Problem
from registry.api.context import CALLER, Context, Routes
from registry.api.fields import Refused
from registry.errors import NotFound
from registry.store import Behavior, Lease

FIELDS = ("Name", "Node", "TTL", "Behavior", "LockDelay", "Checks", "NodeChecks", "ServiceChecks", "Namespace", "ID")
MAX_TTL = 86_400.0  # seconds, Consul's


def routes(context: Context) -> Routes:
    sessions = Sessions(context)
    return {
        "PUT /v1/session/create": sessions.create,
        "PUT /v1/session/renew/{id}": sessions.renew,
        "PUT /v1/session/destroy/{id}": sessions.destroy,
        "GET /v1/session/info/{id}": sessions.info,
        "GET /v1/session/list": sessions.list,
        "GET /v1/session/node/{node}": sessions.of_node,
    }


class Sessions:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def create(self, request: web.Request) -> web.StreamResponse:
        try:
            name, ttl, behavior = self._read(await request.read())
        except Refused as refused:
            raise answers.invalid(refused.invalid) from refused
        owner = request[CALLER].node or self._context.deps.node
        lease = await self._context.store(request).grant(ttl, name=f"{owner}/{name}", behavior=behavior)
        return answers.json(request, {"ID": lease})

    async def renew(self, request: web.Request) -> web.StreamResponse:
        lease = await self._owned(request)
        store = self._context.store(request)
        if lease is None:
            raise Problem(404, f"Session id '{request.match_info['id'][:64]}' not found")
        try:
            await store.renew(lease.id)
        except NotFound as error:
            raise Problem(404, f"Session id '{lease.id}' not found") from error
        return answers.json(request, [self._shape(lease)])

    async def destroy(self, request: web.Request) -> web.StreamResponse:
        lease = await self._owned(request)
        if lease is not None:
            await self._context.store(request).revoke(lease.id)
        return answers.json(request, True)

    async def info(self, request: web.Request) -> web.StreamResponse:
        leases = [lease for lease in await self._leases(request) if lease.id == request.match_info["id"]]
        return await self._answer(request, leases)

    async def list(self, request: web.Request) -> web.StreamResponse:
        return await self._answer(request, await self._leases(request))

    async def of_node(self, request: web.Request) -> web.StreamResponse:
        node = request.match_info["node"]
        return await self._answer(request, [x for x in await self._leases(request) if self._owner(x)[0] == node])

    async def _owned(self, request: web.Request) -> Lease | None:
        """The session of the path if it exists and the caller may change it. Raises Problem 403."""
        leases = [lease for lease in await self._leases(request) if lease.id == request.match_info["id"]]
        owner = self._owner(leases[0])[0] if leases else request[CALLER].node
        self._context.check(request, Action.SESSION_WRITE, owner)
        return leases[0] if leases else None

    async def _leases(self, request: web.Request) -> tuple[Lease, ...]:
        return await self._context.store(request).leases()

    async def _answer(self, request: web.Request, leases: Any) -> web.Response:
        # sessions have no index of their own: what is listed is true now
        index = max([lease.created for lease in leases], default=1)
        return answers.json(request, [self._shape(lease) for lease in leases], index)

    def _owner(self, lease: Lease) -> tuple[str, str]:
        node, slash, name = lease.name.partition("/")
        return (node, name) if slash else (self._context.deps.node, node)

    def _shape(self, lease: Lease) -> dict[str, Any]:
        node, name = self._owner(lease)
        return {
            "ID": lease.id,
            "Name": name,
            "Node": node,
            "LockDelay": 0,
            "Behavior": lease.behavior,
            "TTL": durations.render(lease.ttl) if lease.ttl else "",
            "NodeChecks": ["serfHealth"],
            "ServiceChecks": None,
            "CreateIndex": lease.created,
            "ModifyIndex": lease.created,
        }

    def _read(self, data: bytes) -> tuple[str, float, Behavior]:
        """Name, ttl in seconds (0: without end) and behaviour. Raises Refused."""
        found = fields.take(fields.body(data) if data else {}, "", FIELDS)
        name = fields.string(found.get("Name", ""), "Name")
        ttl = fields.duration(found["TTL"], "TTL") if found.get("TTL") else 0.0
        low = self._context.deps.min_session_ttl
        if ttl and not low <= ttl <= MAX_TTL:
            limits = f"{durations.render(low)} to {durations.render(MAX_TTL)}"
            raise Refused(f"Invalid Session TTL {durations.render(ttl)}", "TTL", limits)
        behavior = fields.string(found.get("Behavior", "release"), "Behavior")
        if behavior == "delete":
            return name, ttl, "delete"
        if behavior in ("", "release"):
            return name, ttl, "release"
        raise Refused(f"Invalid Behavior setting {behavior!r}", "Behavior", "delete or release")
