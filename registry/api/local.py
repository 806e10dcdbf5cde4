"""`/v1/agent/` and `/v1/status/`: this host's own instances and checks.

https://developer.hashicorp.com/consul/api-docs/agent/service, /agent/check. Writing answers have an empty body, as
Consul's, and in `X-Consul-Index` the store index at which the change is visible to all hosts.
"""

import hashlib

import msgspec
from aiohttp import web

from registry.api import answers, fields, views
from registry.api.access import Action
from registry.api.answers import Problem
from registry.api.checks import health
from registry.api.context import CALLER, Context, Routes
from registry.api.fields import Invalid, Refused
from registry.api.registration import parse, parse_check
from registry.errors import NotFound
from registry.model import Health, Instance

STATUS_CODES = {"passing": 200, "warning": 429, "critical": 503, "maintenance": 503}
# What Go's ParseBool reads, so what Consul takes; Python clients send True.
TRUE = ("true", "True", "TRUE", "t", "T", "1")
FALSE = ("false", "False", "FALSE", "f", "F", "0")
VERBS: dict[str, Health] = {"pass": "passing", "warn": "warning", "fail": "critical"}
MAX_OUTPUT = 4096  # characters of a check's output
UPDATE = ("Status", "Output")


def routes(context: Context) -> Routes:
    local = Local(context)
    update = {f"PUT /v1/agent/check/{verb}/{{id}}": local.ttl for verb in VERBS}
    return update | {
        "GET /v1/status/leader": local.leader,
        "GET /v1/status/peers": local.peers,
        "GET /v1/agent/self": local.self,
        "GET /v1/agent/members": local.members,
        "GET /v1/agent/services": local.services,
        "GET /v1/agent/service/{id}": local.service,
        "GET /v1/agent/checks": local.checks,
        "GET /v1/agent/health/service/name/{name}": local.health_by_name,
        "GET /v1/agent/health/service/id/{id}": local.health_by_id,
        "PUT /v1/agent/service/register": local.register,
        "PUT /v1/agent/service/deregister/{id}": local.deregister,
        "PUT /v1/agent/service/maintenance/{id}": local.maintenance,
        "PUT /v1/agent/check/register": local.check_register,
        "PUT /v1/agent/check/deregister/{id}": local.check_deregister,
        "PUT /v1/agent/check/update/{id}": local.check_update,
    }


class Local:
    def __init__(self, context: Context) -> None:
        self._context = context
        self._agent = context.deps.agent

    # ---- reads ----

    async def leader(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, self._context.deps.leader)

    async def peers(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, [self._context.deps.leader])

    async def self(self, request: web.Request) -> web.StreamResponse:
        info = self._agent.info()
        config = {
            "Datacenter": self._context.deps.datacenter,
            "NodeName": info.node,
            "NodeID": views.node_id(info.node),
            "Revision": "",
            "Server": info.server,
            "Version": info.version,
        }
        content = {"Config": config, "DebugConfig": dict(info.config), "Member": self._member(), "Meta": {}}
        return answers.json(request, content)

    async def members(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, [self._member()])

    async def services(self, request: web.Request) -> web.StreamResponse:
        found = {key: views.agent_service(i) for key, i in sorted(self._agent.services().items())}
        return answers.json(request, found)

    async def service(self, request: web.Request) -> web.StreamResponse:
        instance = self._agent.services().get(request.match_info["id"])
        if instance is None:
            raise Problem(404, f"unknown service ID: {request.match_info['id'][:140]}")
        shape = views.agent_service(instance)
        digest = hashlib.sha256(msgspec.json.encode(shape)).hexdigest()[:16]
        return answers.json(request, shape | {"ContentHash": digest}, headers={"X-Consul-ContentHash": digest})

    async def checks(self, request: web.Request) -> web.StreamResponse:
        found = {check["CheckID"]: check for i in self._agent.services().values() for check in self._checks(i)}
        return answers.json(request, dict(sorted(found.items())))

    async def health_by_name(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["name"]
        found = [self._health(i) for i in self._agent.services().values() if i.service == name]
        status = views.worst(
            "critical" if f["AggregatedStatus"] == "maintenance" else f["AggregatedStatus"] for f in found
        )
        if not found:
            return self._answer(request, [], "critical", 404, f"ServiceName {name[:140]} Not Found")
        return self._answer(request, found, status, STATUS_CODES[status], status)

    async def health_by_id(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        instance = self._agent.services().get(name)
        if instance is None:
            content = {"AggregatedStatus": "critical", "Service": None, "Checks": None}
            return self._answer(request, content, "critical", 404, f"ServiceId {name[:140]} not found")
        found = self._health(instance)
        status = found["AggregatedStatus"]
        return self._answer(request, found, status, STATUS_CODES[status], status)

    # ---- writes ----

    async def register(self, request: web.Request) -> web.StreamResponse:
        caller = request[CALLER]
        found = parse(await request.read(), self._context.deps.own_addresses, caller.uid)
        if isinstance(found, Invalid):
            raise answers.invalid(found)
        self._context.check(request, Action.REGISTER, found.service)
        known = self._agent.services().get(found.id)
        if known is not None:  # taking over an id is changing the service that has it
            self._context.check(request, Action.REGISTER, known.service)
        replace = request.query.get("replace-existing-checks", "false").lower() not in ("false", "0")
        return answers.empty(await self._agent.register(found, replace))

    async def deregister(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        self._permit(request, self._agent.services().get(name))
        try:
            return answers.empty(await self._agent.deregister(name))
        except NotFound:
            return answers.empty()  # as Consul: what shall be gone is gone

    async def maintenance(self, request: web.Request) -> web.StreamResponse:
        name, enable = request.match_info["id"], request.query.get("enable", "")
        instance = self._agent.services().get(name)
        self._permit(request, instance)
        if not enable:
            raise Problem(400, "Missing value for enable", "enable", "true or false")
        if enable not in (*TRUE, *FALSE):
            raise Problem(400, f"Invalid value for enable: {enable[:40]!r}", "enable", "true or false")
        reason = _text(request.query.get("reason", ""), "reason")
        if instance is None:
            raise Problem(404, f'No service registered with ID "{name[:140]}"')
        return answers.empty(await self._agent.maintenance(name, enable in TRUE, reason))

    async def ttl(self, request: web.Request) -> web.StreamResponse:
        status = VERBS[request.path.split("/")[4]]
        return await self._report(request, status, request.query.get("note", ""))

    async def check_update(self, request: web.Request) -> web.StreamResponse:
        self._permit(request, self._owner(request.match_info["id"]))
        try:
            found = fields.take(fields.body(await request.read()), "", UPDATE)
            status = health(fields.string(found.get("Status", ""), "Status"), "Status")
            output = found.get("Output", "")
        except Refused as refused:
            raise answers.invalid(refused.invalid) from refused
        return await self._report(request, status, output if isinstance(output, str) else "")

    async def check_register(self, request: web.Request) -> web.StreamResponse:
        found = parse_check(await request.read(), self._context.deps.own_addresses)
        if isinstance(found, Invalid):
            self._permit(request, None)
            raise answers.invalid(found)
        instance_id, check = found
        instance = self._agent.services().get(instance_id)
        self._permit(request, instance)
        if instance is None:
            raise Problem(404, f'ServiceID "{instance_id[:140]}" does not exist', "ServiceID", "register it first")
        return answers.empty(await self._agent.check_register(instance_id, check))

    async def check_deregister(self, request: web.Request) -> web.StreamResponse:
        name = request.match_info["id"]
        self._permit(request, self._owner(name))
        try:
            return answers.empty(await self._agent.check_deregister(name))
        except NotFound:
            return answers.empty()

    # ---- parts ----

    async def _report(self, request: web.Request, status: Health, output: str) -> web.StreamResponse:
        name = request.match_info["id"]
        self._permit(request, self._owner(name))
        try:
            return answers.empty(await self._agent.check_update(name, status, output[:MAX_OUTPUT]))
        except NotFound as error:
            raise Problem(404, f'CheckID "{name[:140]}" does not have associated TTL', "CheckID") from error

    def _permit(self, request: web.Request, instance: Instance | None) -> None:
        """For what does not exist there is no service to decide on: only who may do everything learns so."""
        self._context.check(request, Action.REGISTER, instance.service if instance is not None else "")

    def _owner(self, check_id: str) -> Instance | None:
        state = self._agent.checks().get(check_id)
        return state.instance if state is not None else None

    def _checks(self, instance: Instance) -> list[views.Json]:
        states = [s for s in self._agent.checks().values() if s.instance.id == instance.id]
        found = [views.check_view(instance, s.check, s.result) for s in states]
        return [*found, views.maintenance(instance)] if instance.state == "maintenance" else found

    def _health(self, instance: Instance) -> views.Json:
        checks = self._checks(instance)
        status = views.aggregated(checks)
        shown = [views.agent_check(check) for check in checks]
        return {"AggregatedStatus": status, "Service": views.agent_service(instance), "Checks": shown}

    def _answer(self, request: web.Request, content: object, text: str, status: int, reason: str) -> web.Response:
        headers = {"X-Consul-Reason": reason}
        if request.query.get("format") == "text":
            return web.Response(text=text, status=status, headers=headers)
        return answers.json(request, content, status=status, headers=headers)

    def _member(self) -> views.Json:
        info = self._agent.info()
        return {
            "Name": info.node,
            "Addr": info.address,
            "Port": 0,
            "Tags": {"role": "consul" if info.server else "node", "dc": self._context.deps.datacenter},
            "Status": 1,
            "ProtocolMin": 1,
            "ProtocolMax": 5,
            "ProtocolCur": 2,
            "DelegateMin": 2,
            "DelegateMax": 5,
            "DelegateCur": 4,
        }


def _text(value: str, name: str) -> str:
    if len(value) > 512 or not value.isprintable():
        raise Problem(400, f"{name} has control characters or is longer than 512", name)
    return value
