"""A small application behind the mesh: `python -m tests.mesh.app --name api --version v1 --listen 127.0.0.2:8080`.

Answers every path with JSON about itself and the headers that it saw, appends one JSON line per request to `--log`
(the second witness of stories and of the demo), serves `/healthz`, and is controlled by `PUT /_control`:
`{"healthy": false}` makes `/healthz` answer 503, `{"delay": 0.2}` slows every answer down (seconds),
`{"fail": 2}` makes the next two answers 503.
"""

import argparse
import asyncio
import json
import time
from pathlib import Path
from typing import Any, TextIO

from aiohttp import web


class App:
    """State of one application process."""

    def __init__(self, who: dict[str, str], log: TextIO | None):
        self.who, self.log = who, log
        self.healthy, self.delay, self.fail = True, 0.0, 0

    async def answer(self, request: web.Request) -> web.Response:
        body = await request.read()
        self.note(request, body)
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.fail > 0:
            self.fail -= 1
            return web.Response(status=503, text="failed on request")
        headers = {name.lower(): value for name, value in request.headers.items()}
        return web.json_response(
            self.who | {"method": request.method, "path": request.path_qs, "body": len(body), "headers": headers}
        )

    def note(self, request: web.Request, body: bytes) -> None:
        if self.log is None:
            return
        headers = [[name.lower(), value] for name, value in request.headers.items()]
        row = {"at": time.time(), "method": request.method, "path": request.path_qs, "body": len(body)}
        self.log.write(json.dumps(self.who | row | {"headers": headers}) + "\n")
        self.log.flush()

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(status=200 if self.healthy else 503, text="ok" if self.healthy else "ill on request")

    async def control(self, request: web.Request) -> web.Response:
        wish: dict[str, Any] = await request.json()
        self.healthy = bool(wish.get("healthy", self.healthy))
        self.delay = float(wish.get("delay", self.delay))
        self.fail = int(wish.get("fail", self.fail))
        return web.json_response({"healthy": self.healthy, "delay": self.delay, "fail": self.fail})


async def serve(app: App, address: str, port: int) -> None:
    application = web.Application()
    application.router.add_get("/healthz", app.health)
    application.router.add_put("/_control", app.control)
    application.router.add_route("*", "/{path:.*}", app.answer)
    runner = web.AppRunner(application, access_log=None, keepalive_timeout=3600)
    await runner.setup()
    site = web.TCPSite(runner, address, port, backlog=1024)
    await site.start()
    actual = runner.addresses[0][1]
    print(json.dumps({"listening": f"{address}:{actual}"}), flush=True)
    await asyncio.Event().wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--instance", default="")
    parser.add_argument("--version", default="v1")
    parser.add_argument("--listen", required=True, metavar="ADDRESS:PORT")
    parser.add_argument("--log", type=Path)
    args = parser.parse_args()
    address, _, port = args.listen.rpartition(":")
    who = {"app": args.name, "instance": args.instance or args.name, "version": args.version}
    with args.log.open("a") if args.log else open("/dev/null", "w") as log:
        asyncio.run(serve(App(who, log), address, int(port)))


if __name__ == "__main__":
    main()
