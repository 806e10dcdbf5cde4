"""Port 15590, loopback: `/metrics`, `/livez`, `/readyz`, `/status`. Reads only, nothing secret."""

import msgspec
from aiohttp import web

from meshd.admin import views
from meshd.admin.whole import Whole
from meshd.agent import Agent
from meshd.config import show
from meshd.dataplane.frames import Broken
from meshd.telemetry import metrics
from policies.compiled import Stats

METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8"


def build(agent: Agent) -> web.Application:
    """The application of the admin port."""
    app = web.Application()

    async def page(request: web.Request) -> web.Response:
        del request
        stats = await scrape(agent)
        body = metrics.render(stats, views.facts(agent, stats))
        return web.Response(body=body, headers={"Content-Type": METRICS_TYPE})

    async def livez(request: web.Request) -> web.Response:
        del request
        return web.Response(text="ok\n")

    async def readyz(request: web.Request) -> web.Response:
        del request
        reasons = agent.not_ready()
        return web.Response(status=503 if reasons else 200, text="\n".join(reasons or ("ok",)) + "\n")

    async def status(request: web.Request) -> web.Response:
        del request
        body = msgspec.to_builtins(views.status(Whole(agent), {})) | {"settings": dict(show(agent.host))}
        return web.json_response(body)

    app.router.add_get("/metrics", page)
    app.router.add_get("/livez", livez)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/status", status)
    return app


async def scrape(agent: Agent) -> Stats | None:
    """Totals as of now; None without a proxy, or with one that does not answer."""
    try:
        return await agent.dataplane.scrape()
    except Broken:
        return None
