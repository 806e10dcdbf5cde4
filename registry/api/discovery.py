"""`/v1/catalog/` and `/v1/health/`: all hosts' instances, from the catalogue. Instances on their way out are gone.

https://developer.hashicorp.com/consul/api-docs/catalog, https://developer.hashicorp.com/consul/api-docs/health
"""

from collections.abc import Callable, Mapping, Sequence

from aiohttp import web

from registry import keys
from registry.api import answers
from registry.api.answers import Problem
from registry.api.blocking import Scope
from registry.api.context import Context, Routes
from registry.api.views import Json, Picture, tagged, worst
from registry.model import Instance

HOSTS = (Scope(keys.NODES), Scope(keys.LEASES))
ALL = (Scope(keys.SERVICES), *HOSTS)


def routes(context: Context) -> Routes:
    views = Discovery(context)
    return {
        "GET /v1/catalog/datacenters": views.datacenters,
        "GET /v1/catalog/services": views.services,
        "GET /v1/catalog/service/{name}": views.catalog_service,
        "GET /v1/catalog/nodes": views.nodes,
        "GET /v1/catalog/node/{node}": views.node,
        "GET /v1/health/service/{name}": views.health_service,
        "GET /v1/health/checks/{name}": views.checks,
        "GET /v1/health/node/{node}": views.node_checks,
        "GET /v1/health/state/{state}": views.state,
    }


class Discovery:
    def __init__(self, context: Context) -> None:
        self._context = context

    async def datacenters(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, [self._context.deps.datacenter])

    async def services(self, request: web.Request) -> web.StreamResponse:
        picture = await self._mesh(request)
        wanted = node_filter(request, picture)
        return answers.json(request, tagged(i for i in picture.instances if wanted(i.node)), picture.index)

    async def catalog_service(self, request: web.Request) -> web.StreamResponse:
        picture = await self._service(request)
        return answers.json(request, [picture.catalog_service(i) for i in picture.instances], picture.index)

    async def nodes(self, request: web.Request) -> web.StreamResponse:
        picture = await self._mesh(request)
        wanted = node_filter(request, picture)
        return answers.json(request, [picture.node(n) for n in picture.names() if wanted(n)], picture.index)

    async def node(self, request: web.Request) -> web.StreamResponse:
        picture, name = await self._mesh(request), request.match_info["node"]
        if name not in picture.names():
            return answers.json(request, None, picture.index)
        local = {i.id: picture.service(i) for i in picture.instances if i.node == name}
        return answers.json(request, {"Node": picture.node(name), "Services": local}, picture.index)

    async def health_service(self, request: web.Request) -> web.StreamResponse:
        picture = await self._service(request)
        entries = [picture.entry(instance) for instance in picture.instances]
        if request.query.get("passing", "false").lower() not in ("false", "0"):
            entries = [e for e in entries if worst(c["Status"] for c in e["Checks"]) == "passing"]
        return answers.json(request, entries, picture.index)

    async def checks(self, request: web.Request) -> web.StreamResponse:
        picture = await self._service(request)
        found = [check for instance in picture.instances for check in picture.checks(instance)]
        return answers.json(request, found, picture.index)

    async def node_checks(self, request: web.Request) -> web.StreamResponse:
        picture, name = await self._mesh(request), request.match_info["node"]
        return answers.json(request, [c for c in _all_checks(picture) if c["Node"] == name], picture.index)

    async def state(self, request: web.Request) -> web.StreamResponse:
        picture, state = await self._mesh(request), request.match_info["state"]
        found = [c for c in _all_checks(picture) if state in ("any", c["Status"])]
        return answers.json(request, found, picture.index)

    async def _mesh(self, request: web.Request) -> Picture:
        """Everything, with the index of services, hosts and leases together."""
        check_query(request)
        index = await self._context.wait(request, *ALL)
        services = await self._context.deps.catalog.services()
        return await self._picture(index, [i for found in services.values() for i in found])

    async def _service(self, request: web.Request) -> Picture:
        """The instances of the service in the path, all tags of `?tag=` on each."""
        check_query(request)
        name, tags = request.match_info["name"], set(request.query.getall("tag", []))
        if not keys.valid_name(name):
            raise Problem(400, f"Invalid service name {name[:140]!r}", "service", "1 to 128 of A-Z a-z 0-9 . _ -")
        index = await self._context.wait(request, Scope(f"{keys.SERVICES}{name}/"), *HOSTS)
        instances = await self._context.deps.catalog.instances(name)
        picture = await self._picture(index, [i for i in instances if tags <= set(i.tags)])
        wanted = node_filter(request, picture)
        return Picture(
            picture.index,
            picture.datacenter,
            [i for i in picture.instances if wanted(i.node)],
            picture.nodes,
            picture.alive,
        )

    async def _picture(self, index: int, instances: Sequence[Instance]) -> Picture:
        deps = self._context.deps
        leases = await deps.store.list(keys.LEASES)
        nodes = {node.name: node for node in await deps.catalog.nodes()}
        alive = {entry.key.removeprefix(keys.LEASES) for entry in leases.entries}
        # a host without meshd holds no lease: its instances' own checks speak
        alive |= {one.node for one in instances if one.inbound is None and one.node not in nodes}
        return Picture(
            index,
            deps.datacenter,
            [instance for instance in instances if instance.state != "withdrawn"],
            nodes,
            frozenset(alive),
        )


def node_filter(request: web.Request, picture: Picture) -> Callable[[str], bool]:
    """Whether a node has all of `?node-meta=key:value`."""
    wanted = [text.partition(":")[::2] for text in request.query.getall("node-meta", [])]

    def matches(name: str) -> bool:
        node = picture.nodes.get(name)
        meta: Mapping[str, str] = node.meta if node is not None else {}
        return all(meta.get(key) == value for key, value in wanted)

    return matches


def check_query(request: web.Request) -> None:
    """What changes an answer and is not carried must not be ignored. Raises Problem 400."""
    if request.query.get("filter"):
        raise Problem(400, "filter is not supported yet", "filter", "use tag, passing and node-meta")


def _all_checks(picture: Picture) -> list[Json]:
    found = [picture.serf(name) for name in picture.names()]
    for instance in picture.instances:
        found += picture.checks(instance)
    return sorted(found, key=lambda check: (check["Node"], check["CheckID"]))
