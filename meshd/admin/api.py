"""`/v1/mesh/*`, mounted into the Consul-compatible application of 15500 and `api.sock`. Shapes: `admin.shapes`.

Who may call what follows the same rights as the keys behind it: reading documents is reading their keys, applying is
writing them, tokens and revocations are writing the authority's and the operators' keys.
"""

import random
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

import msgspec
from aiohttp import web

from meshd.admin import apply, delete, explain, registries, service_view, views, whole
from meshd.admin.shapes import Adopted, DeleteRequest, TokenAnswer, TokenRequest
from meshd.agent import Agent
from meshd.config import show
from meshd.control.status import HostStatus
from meshd.dataplane.frames import Broken
from policies.compiled import ExplainRequest, Stats
from policies.schema.service_defaults import ServiceDefaults
from policies.select import Index
from registry import keys, store_id
from registry.api import access, answers
from registry.api.access import Action
from registry.api.answers import JSON, Problem
from registry.api.blocking import Waits
from registry.api.context import CALLER, Context, Deps
from registry.ca import bundle, rotation
from registry.ca.entitlement import Entitlement
from registry.errors import RegistryError

T = TypeVar("T")
Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
ANY_TOKEN = keys.CA_TOKENS_USED + "any"  # making tokens is writing the authority's part of the store

# method, path, action, target (a key; {kind} and {name} are filled in); POST apply decides on each document's key
ROUTES = (
    ("GET", "/v1/mesh/status", Action.STATUS, ""),
    ("GET", "/v1/mesh/services", Action.CATALOG, ""),
    ("GET", "/v1/mesh/services/{name}", Action.CATALOG, ""),
    ("POST", "/v1/mesh/apply", Action.STATUS, ""),
    ("GET", "/v1/mesh/documents", Action.KV_READ, keys.POLICY),
    ("GET", "/v1/mesh/documents/{kind}/{name}", Action.KV_READ, keys.POLICY),
    ("DELETE", "/v1/mesh/documents/{kind}/{name}", Action.KV_WRITE, keys.POLICY),
    ("POST", "/v1/mesh/delete", Action.KV_WRITE, keys.POLICY),
    ("POST", "/v1/mesh/explain", Action.CATALOG, ""),
    ("GET", "/v1/mesh/certs", Action.STATUS, ""),
    ("GET", "/v1/mesh/proxy/config", Action.AGENT_READ, ""),
    ("GET", "/v1/mesh/proxy/stats", Action.AGENT_READ, ""),
    ("GET", "/v1/mesh/settings", Action.KV_READ, keys.CA_ISSUED),
    ("GET", "/v1/mesh/roots", Action.STATUS, ""),
    ("POST", "/v1/mesh/tokens", Action.KV_WRITE, ANY_TOKEN),
    ("GET", "/v1/mesh/registries", Action.CATALOG, ""),
    ("GET", "/v1/mesh/registries/diff", Action.CATALOG, ""),
    ("GET", "/v1/mesh/registries/placement/{name}", Action.CATALOG, ""),
    ("POST", "/v1/mesh/registries/placement/{name}", Action.KV_WRITE, keys.POLICY),
    ("POST", "/v1/mesh/registry/adopt", Action.KV_WRITE, keys.STORE_ID),
    ("POST", "/v1/mesh/revocations", Action.KV_WRITE, keys.REVOCATIONS),
)


def mount(app: web.Application, deps: Deps, agent: Agent) -> None:
    """Add the routes to an application of `registry.api.app.build_app`, whose middleware maps errors."""
    desk = Desk(Context(deps, Waits(random.random), peer=False), agent)
    for method, path, action, target in ROUTES:
        app.router.add_route(method, path, desk.guarded(desk.handler(method, path), action, target))


class Desk:
    """The handlers."""

    def __init__(self, context: Context, agent: Agent) -> None:
        self._context = context
        self._agent = agent

    def handler(self, method: str, path: str) -> Handler:
        """The handler of a row of `ROUTES`."""
        name = path.removeprefix("/v1/mesh/").replace("/{name}", "/one").replace("{kind}/", "").replace("/", "_")
        found: Handler = getattr(self, f"{method.lower()}_{name}")
        return found

    def guarded(self, handler: Handler, action: Action, target: str) -> Handler:
        async def answer(request: web.Request) -> web.StreamResponse:
            request[CALLER] = caller = self._context.caller(request, action)
            decision = access.decide(self._context.deps.access, caller, action, target)
            if isinstance(decision, access.Refuse):
                raise answers.refused(decision)
            try:
                return await handler(request)
            except Broken as error:
                raise Problem(503, f"the proxy does not answer: {error}") from error

        return answer

    # ---- reads ------------------------------------------------------------------------------------------------------

    async def get_status(self, request: web.Request) -> web.StreamResponse:
        seen = await whole.read(self._agent, keys.SERVICES, keys.POLICY, hosts=True)
        return answers.json(request, views.status(seen, await self._reports()), headers=seen.headers)

    async def get_services(self, request: web.Request) -> web.StreamResponse:
        seen = await whole.read(self._agent, keys.SERVICES)
        return answers.json(request, views.services(seen, await self._stats()), headers=seen.headers)

    async def get_services_one(self, request: web.Request) -> web.StreamResponse:
        agent, name = self._agent, request.match_info["name"]
        now = agent.around.clock()
        if not keys.valid_name(name):
            raise unknown(name)
        sight = await whole.around(agent, frozenset((name,)))
        known, documents = sight.view.endpoints.get(name, ()), sight.view.documents
        if not known and not any(document[1] == name for document in documents):
            raise unknown(name)
        resources = explain.resources(sight.view, sight.instances, name)
        stats = await self._stats()
        seen, parts = views.ejected(stats), service_view.subsets(resources)
        rows = tuple(
            views.endpoint_row(one, parts.get(str(one.instance.key), ()), seen.get(str(one.instance.key)), now)
            for one in known
        )
        hits = {one.name: one.count for one in stats.rules} if stats else {}
        said = Index(documents).find(ServiceDefaults, name)
        content = service_view.build(name, resources, rows, hits, said)
        return answers.json(request, content, headers=whole.headers(sight.missing))

    async def get_certs(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, views.certificates(self._agent))

    async def get_settings(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, dict(show(self._agent.host)))

    async def get_roots(self, request: web.Request) -> web.StreamResponse:
        roots = [root for pem in self._agent.identities.roots for root in bundle.read_pem(pem.encode())]
        rows = [
            {
                "hash": bundle.root_hash(root),
                "subject": root.subject.rfc4514_string(),
                "not_after": rotation.stamp(root.not_valid_after_utc.timestamp()),
            }
            for root in roots
        ]
        return answers.json(request, {"trust_domain": self._agent.identities.trust_domain, "roots": rows})

    async def get_proxy_config(self, request: web.Request) -> web.StreamResponse:
        config = await self._agent.dataplane.dump()
        if config is None:
            raise Problem(503, "no proxy is attached", hint="the log of meshd says why")
        return answers.json(request, config)

    async def get_proxy_stats(self, request: web.Request) -> web.StreamResponse:
        stats = await self._stats()
        if stats is None:
            raise Problem(503, "no proxy is attached", hint="the log of meshd says why")
        return answers.json(request, stats)

    async def _stats(self) -> Stats | None:
        return await self._agent.dataplane.scrape()

    async def _reports(self) -> dict[str, HostStatus]:
        try:
            listing = await self._agent.store.list(keys.STATUS)
        except RegistryError:
            return {}  # the rest of the status is what matters while the registry is away
        return views.read_reports({entry.key: entry.value for entry in listing.entries})

    async def post_explain(self, request: web.Request) -> web.StreamResponse:
        question = await self._body(request, ExplainRequest)
        for field in ("source", "destination"):
            if not keys.valid_name(getattr(question, field)):
                raise Problem(400, f"{field} is no service name", field)
        return answers.json(request, await explain.explain(self._agent, question))

    # ---- documents --------------------------------------------------------------------------------------------------

    async def get_documents(self, request: web.Request) -> web.StreamResponse:
        seen = await whole.read(self._agent, keys.POLICY)
        return answers.json(request, views.documents(seen), headers=seen.headers)

    async def get_documents_one(self, request: web.Request) -> web.StreamResponse:
        key = self._document_key(request)
        entry = await self._agent.store.get(key)
        if entry is None:
            raise Problem(404, f"{key.removeprefix(keys.PREFIX)} does not exist", hint="`meshctl get` lists documents")
        headers = {"X-Meshd-Version": str(entry.version)}
        return web.Response(body=entry.value, content_type="text/plain", charset="utf-8", headers=headers)

    async def delete_documents_one(self, request: web.Request) -> web.StreamResponse:
        return await self._delete(request, [(request.match_info["kind"], request.match_info["name"])])

    async def post_delete(self, request: web.Request) -> web.StreamResponse:
        wanted = await self._body(request, DeleteRequest)
        return await self._delete(request, [self._document_name(one) for one in wanted.documents])

    async def _delete(self, request: web.Request, names: list[tuple[str, str]]) -> web.StreamResponse:
        agent, caller = self._agent, request[CALLER]
        for name in names:
            decision = access.decide(self._context.deps.access, caller, Action.KV_WRITE, self._policy_key(*name))
            if isinstance(decision, access.Refuse):
                raise answers.refused(decision)
        fold = agent.fold
        held = {name: version for name, version in fold.unexplained.items() if name in fold.held_documents}
        store, who = self._context.store(request), access.describe(caller)
        index = await delete.delete(store, names, held, who, agent.around.now())
        agent.deletions.look()
        return answers.json(request, {"index": index})

    async def post_apply(self, request: web.Request) -> web.StreamResponse:
        try:
            planned = apply.plan(await request.read())
        except apply.Refused as refused:
            return refused.response()
        agent = self._agent
        found = await apply.warnings(agent, planned)
        if request.query.get("dry_run"):
            return answers.json(request, await apply.result(agent, apply.dry(planned), found))
        caller = request[CALLER]
        for one in planned.texts:
            key = keys.policy(one.kind, one.name)
            decision = access.decide(self._context.deps.access, caller, Action.KV_WRITE, key)
            if isinstance(decision, access.Refuse):
                raise answers.refused(decision)
        who = access.describe(caller)
        applied = await apply.write(self._context.store(request), planned, who, agent.around.now())
        return answers.json(request, await apply.result(agent, applied, found))

    def _document_key(self, request: web.Request) -> str:
        return self._policy_key(request.match_info["kind"], request.match_info["name"])

    @staticmethod
    def _document_name(text: str) -> tuple[str, str]:
        kind, _, name = text.partition("/")
        return kind, name

    @staticmethod
    def _policy_key(kind: str, name: str) -> str:
        key = keys.policy(kind, name)
        if keys.parse_policy(key) != (kind, name):
            raise Problem(400, "no name of a document", "name", "kind/name, for example service-intentions/api")
        return key

    # ---- registries -------------------------------------------------------------------------------------------------

    async def get_registries(self, request: web.Request) -> web.StreamResponse:
        return answers.json(request, await registries.rows(self._agent))

    async def get_registries_diff(self, request: web.Request) -> web.StreamResponse:
        a, b = request.query.get("a", ""), request.query.get("b", "")
        return answers.json(request, await registries.diff(self._agent, a, b))

    async def get_registries_placement_one(self, request: web.Request) -> web.StreamResponse:
        found = await registries.placement(self._agent, self._service_name(request), await self._reports())
        return answers.json(request, found)

    async def post_registries_placement_one(self, request: web.Request) -> web.StreamResponse:
        wanted = registries.question(await self._body(request, dict[str, list[str]]))
        store, who = self._context.store(request), access.describe(request[CALLER])
        placed = await registries.place(self._agent, store, self._service_name(request), wanted, who)
        return answers.json(request, placed)

    def _service_name(self, request: web.Request) -> str:
        name = request.match_info["name"]
        if not keys.valid_name(name):
            raise Problem(400, f"{name[:80]!r} is no service name", "name")
        return name

    # ---- authority --------------------------------------------------------------------------------------------------

    async def post_tokens(self, request: web.Request) -> web.StreamResponse:
        wanted = await self._body(request, TokenRequest)
        authority, identities = self._agent.authority, self._agent.identities
        if authority is None:
            raise Problem(409, "this host has no authority", hint="ask the host with the role ca")
        if wanted.kind == "join":
            token = authority.join_token(wanted.node, Entitlement(services=wanted.services), wanted.ttl)
        else:
            token = authority.operator_token(wanted.name, wanted.ttl)
        root = bundle.read_pem(identities.roots[0].encode())[0]
        expires = rotation.stamp(self._agent.around.now() + wanted.ttl)
        answer = TokenAnswer(token=token, expires=expires, root_hash=bundle.root_hash(root))
        self._agent.log.info("token made", kind=wanted.kind, host=wanted.node, services=wanted.services,
                             name=wanted.name, by=access.describe(request[CALLER]), expires=expires)  # fmt: skip
        return answers.json(request, answer)

    async def post_registry_adopt(self, request: web.Request) -> web.StreamResponse:
        agent, store = self._agent, self._context.store(request)
        fold = agent.fold
        entry = await store.get(keys.STORE_ID)
        seen = entry.value.decode("ascii", "replace") if entry is not None else ""
        known = fold.pinned or seen
        if not known:
            raise Problem(409, "this mesh has no store-id", hint="`meshctl ca init` draws it, the ca host writes it")
        # Above both: a host that has seen an older id, and one that has seen a later one, must each take it as new.
        following = store_id.following(max((known, seen), key=lambda one: store_id.rank(one, known)))
        let_go = Adopted(
            store_id=following,
            documents=tuple(sorted("/".join(name) for name in fold.held_documents)),
            held=views.short(fold.held),
            braked=dict(fold.braked),
        )
        index = await store.put(keys.STORE_ID, following.encode(), expect=entry.version if entry is not None else 0)
        agent.sync.adopt(following, index)
        agent.log.warning("store adopted", id=following, by=access.describe(request[CALLER]), before=seen,
                          documents=let_go.documents, held=let_go.held, braked=let_go.braked)  # fmt: skip
        return answers.json(request, let_go)

    async def post_revocations(self, request: web.Request) -> web.StreamResponse:
        body = await self._body(request, dict[str, str])
        what = {name.title(): value for name, value in body.items() if name in ("identity", "serial", "reason")}
        what["From"] = rotation.stamp(time.time())
        if ("Identity" in what) == ("Serial" in what):
            raise Problem(400, "exactly one of identity and serial is wanted", "identity")
        if "Serial" in what:
            del what["From"]
        name = f"{int(self._agent.around.now() * 1000):x}"
        value = msgspec.json.encode(what)
        index = await self._context.store(request).put(keys.REVOCATIONS + name, value, expect=0)
        return answers.json(request, {"index": index})

    async def _body(self, request: web.Request, kind: type[T]) -> T:
        try:
            return msgspec.json.decode(await request.read(), type=kind)
        except msgspec.DecodeError as error:
            raise Problem(400, str(error), hint="a JSON object; see the shapes of the mesh API") from error


def unknown(name: str) -> Problem:
    return Problem(404, f"no service {name[:80]!r} is known", hint="`meshctl services` lists them")


__all__ = ["JSON", "ROUTES", "Desk", "mount"]
