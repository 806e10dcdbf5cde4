"""Finding the meshd to talk to (`--api` > `MESHD_API` > `/run/meshd/api.sock`) and asking it.

Only the standard library: importing an HTTP framework would triple the start-up time of every command.
"""

import http.client
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from meshd.cli.output import note

DEFAULT_API = "/run/meshd/api.sock"

MISSING = "x-meshd-missing"  # why an answer shows less than everything

T = TypeVar("T")


class Refused(Exception):
    """meshd answered with an error. `problems` are rows of a refused document."""

    def __init__(
        self, status: int, error: str, *, field: str = "", hint: str = "", body: Mapping[str, Any] | None = None
    ):
        super().__init__(error)
        self.status, self.error, self.field, self.hint = status, error, field, hint
        self.body: Mapping[str, Any] = body or {}


class Unreachable(Exception):
    """Nobody answers at the target."""

    hint = "is meshd running on this host? name it with --api or MESHD_API (a socket path or http://...)"


class Away(Unreachable):
    """meshd answers, what it needs for this does not: the registry (or it takes no writes), or the proxy."""

    hint = "what is in force stays; `meshctl status` says what is away and since when; try again when it is back"


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket; peer credentials take the place of a login."""

    def __init__(self, path: str, timeout: float):
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Target:
    """One meshd's API. `timeout` seconds apply to a single answer; long polls add their own wait."""

    def __init__(self, api: str, token: str = "", timeout: float = 15.0):
        self.api, self.timeout = api, timeout
        self.token = token

    @classmethod
    def find(cls, api: str | None, token_file: str | None) -> "Target":
        """Raises Unreachable when the token file cannot be read."""
        token_file = token_file or os.environ.get("MESHD_TOKEN_FILE")
        token = ""
        if token_file:
            try:
                token = Path(token_file).read_text().strip()
            except OSError as error:
                raise Unreachable(f"token file {token_file}: {error.strerror}") from error
        return cls(api or os.environ.get("MESHD_API") or DEFAULT_API, token)

    def _connection(self, timeout: float) -> http.client.HTTPConnection:
        if self.api.startswith("http://"):
            parts = urlsplit(self.api)
            return http.client.HTTPConnection(parts.hostname or "", parts.port or 15500, timeout=timeout)
        return UnixConnection(self.api.removeprefix("unix://"), timeout)

    def call(
        self, method: str, path: str, *, query: Mapping[str, object] | None = None, body: bytes = b"", wait: float = 0
    ) -> tuple[bytes, Mapping[str, str]]:
        """Body and headers (lower-case names) of a 2xx answer; raises Refused and Unreachable."""
        url = quote(path, safe="/*") + (f"?{urlencode(query)}" if query else "")
        headers = {"X-Consul-Token": self.token} if self.token else {}
        connection = self._connection(self.timeout + wait)
        try:
            connection.request(method, url, body=body or None, headers=headers)
            answer = connection.getresponse()
            data = answer.read()
        except (OSError, http.client.HTTPException) as error:
            raise Unreachable(f"no meshd answers at {self.api}: {error}") from error
        finally:
            connection.close()
        if answer.status >= 300:
            raise refusal(answer.status, data)
        return data, {name.lower(): value for name, value in answer.getheaders()}

    def read(self, path: str, shape: type[T], *, query: Mapping[str, object] | None = None) -> T:
        data, headers = self.call("GET", path, query=query)
        if MISSING in headers:
            note(headers[MISSING])
        return msgspec.json.decode(data, type=shape)

    def send(self, path: str, value: Any, shape: type[T]) -> T:
        return msgspec.json.decode(self.call("POST", path, body=msgspec.json.encode(value))[0], type=shape)


def refusal(status: int, data: bytes) -> Exception:
    """The error body `{"error", "field", "hint"}`; a 5xx from behind meshd (no registry) is Away."""
    try:
        body = json.loads(data)
        error = str(body["error"])
    except (ValueError, KeyError, TypeError):
        body, error = {}, data.decode(errors="replace").strip() or f"HTTP {status}"
    if status in (502, 503, 504):
        return Away(error)
    return Refused(status, error, field=str(body.get("field") or ""), hint=str(body.get("hint") or ""), body=body)
