"""A mesh API that behaves: answers `/v1/mesh/*` and the status keys from what a test puts into it, over real HTTP."""

import base64
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

import msgspec


@dataclass
class MeshApi:
    """`answers`: value by (method, path); `reports`: proxy status by node; `seen`: requests in order."""

    url: str = ""
    answers: dict[tuple[str, str], tuple[int, Any]] = field(default_factory=dict)
    reports: dict[str, Any] = field(default_factory=dict)
    seen: list[tuple[str, str, bytes]] = field(default_factory=list)
    tokens: list[str] = field(default_factory=list)

    def answer(self, method: str, path: str, value: Any, status: int = 200) -> None:
        self.answers[method, path] = (status, value)


def handler(api: MeshApi) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, format: str, *args: Any) -> None:
            """Quiet."""

        def reply(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("X-Consul-Index", "1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            path = urlsplit(self.path).path
            api.seen.append((self.command, self.path, body))
            api.tokens.append(self.headers.get("X-Consul-Token") or "")
            if path == "/v1/kv/mesh/v1/status/proxies/":
                rows = [
                    {"Key": f"mesh/v1/status/proxies/{n}", "Value": base64.b64encode(json.dumps(r).encode()).decode()}
                    for n, r in api.reports.items()
                ]
                self.reply(200 if rows else 404, json.dumps(rows).encode())
                return
            status, value = api.answers.get((self.command, path), (404, {"error": f"no route {path}"}))
            self.reply(status, value if isinstance(value, bytes) else msgspec.json.encode(value))

        do_GET = do_POST = do_DELETE = do_PUT = serve

    return Handler


@contextmanager
def serving() -> Iterator[MeshApi]:
    api = MeshApi()
    with ThreadingHTTPServer(("127.0.0.1", 0), handler(api)) as server:
        api.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield api
        server.shutdown()
        thread.join()
