"""The Consul-compatible HTTP API: one table of routes (`access.ROUTES`), one application per listener."""

import logging
from collections.abc import Mapping

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from registry.api import answers, discovery, kv, local, sessions, txn
from registry.api.access import ROUTES, Route
from registry.api.answers import Problem
from registry.api.blocking import Waits
from registry.api.context import CALLER, TARGETLESS, Context, Deps, Routes
from registry.errors import RegistryError

MAX_BODY = 2 * 1024 * 1024  # bytes: 64 operations of a transaction; single values have their own limit
SHUTDOWN = 2.0  # seconds: waits are let go at once, what remains are writes

log = logging.getLogger(__name__)


def build_app(deps: Deps, *, peer: bool = False) -> web.Application:
    """The local API (15500, api.sock), or with `peer` what other hosts reach on 15444 with their certificates.

    Serve it with `runner`, which ends handlers whose client has gone; routes of other rooms may be added to the
    router before it starts (they decide by themselves who may call them).
    """
    context = Context(deps, Waits(deps.random), peer)
    rows = [row for row in ROUTES if row.peer or not peer]
    table: dict[web.AbstractRoute, Route] = {}
    app = web.Application(client_max_size=MAX_BODY, middlewares=[_guarded(context, table)])
    handlers = _handlers(context)
    for row in rows:
        # add_route, not add_get: that would add HEAD, which Consul refuses
        table[app.router.add_route(row.method, row.path, handlers[row.name])] = row

    async def release(_app: web.Application) -> None:
        context.waits.release()

    app.on_shutdown.append(release)
    return app


def runner(app: web.Application) -> web.AppRunner:
    """How the application is to be served.

    A client that goes away cancels its handler: a blocking query must not hold its wait for minutes. Bodies are not
    unpacked (the guard refuses packed ones before they are read).
    """
    return web.AppRunner(
        app, handler_cancellation=True, auto_decompress=False, shutdown_timeout=SHUTDOWN, access_log=None
    )


def _handlers(context: Context) -> Routes:
    found: dict[str, Handler] = {}
    for module in (local, discovery, kv, txn, sessions):
        found |= module.routes(context)
    return found


def _guarded(context: Context, table: Mapping[web.AbstractRoute, Route]) -> Middleware:
    @web.middleware
    async def guarded(request: web.Request, handler: Handler) -> web.StreamResponse:
        try:
            context.guard(request)
            row = table.get(request.match_info.route)
            if row is not None:
                _admit(context, request, row)
            return await handler(request)
        except Problem as found:
            return answers.problem(found)
        except RegistryError as error:
            return answers.problem(answers.from_error(error))
        except web.HTTPException as error:
            if error.status < 400:
                raise
            allow = {"Allow": error.headers["Allow"]} if "Allow" in error.headers else {}
            return answers.problem(
                Problem(error.status, f"{request.method} {request.path[:200]}: {error.reason}"), allow
            )
        except Exception:
            log.exception("%s %s", request.method, request.path)
            return answers.problem(Problem(500, "internal error", hint="the log of meshd says more"))

    return guarded


def _admit(context: Context, request: web.Request, row: Route) -> None:
    request[CALLER] = context.caller(request, row.action)
    dc = request.query.get("dc", context.deps.datacenter)
    if dc != context.deps.datacenter:
        raise Problem(500, "No path to datacenter", "dc", f"this is {context.deps.datacenter}")
    if row.action in TARGETLESS:
        context.check(request, row.action)
