"""Answers in Consul's form: JSON bodies, `X-Consul-*` headers, and the one mapping from registry errors to HTTP.

https://developer.hashicorp.com/consul/api-docs (1.8); errors are `{"error", "field", "hint"}` instead of bare text.
"""

from collections.abc import Mapping
from typing import Any

import msgspec
from aiohttp import web

from registry import errors
from registry.api.access import Refuse
from registry.api.fields import Invalid

JSON = "application/json"

# More specific first; RegistryError itself is never raised.
STATUSES: tuple[tuple[type[errors.RegistryError], int], ...] = (
    (errors.NotFound, 404),
    (errors.Denied, 403),
    (errors.Conflict, 409),
    (errors.TooLarge, 413),
    (errors.Unavailable, 503),
    (errors.Corrupt, 500),
)


class Problem(Exception):
    """Ends a handler with an error answer."""

    def __init__(self, status: int, error: str, field: str = "", hint: str = "") -> None:
        super().__init__(error)
        self.status = status
        self.error = error
        self.field = field
        self.hint = hint


def refused(refuse: Refuse) -> Problem:
    return Problem(refuse.status, refuse.error, hint=refuse.hint)


def invalid(found: Invalid) -> Problem:
    return Problem(400, found.error, found.field, found.hint)


def from_error(error: errors.RegistryError) -> Problem:
    """The one place where what went wrong at the registry becomes a status."""
    status = next((code for kind, code in STATUSES if isinstance(error, kind)), 500)
    hint = "the registry does not answer; reads of the mesh go on, try again" if status == 503 else ""
    return Problem(status, str(error), hint=hint)


def problem(found: Problem, headers: Mapping[str, str] | None = None) -> web.Response:
    content = {"error": found.error, "field": found.field, "hint": found.hint}
    return web.Response(
        status=found.status, body=msgspec.json.encode(content), content_type=JSON, headers=headers or {}
    )


def json(request: web.Request, content: Any, index: int | None = None, **more: Any) -> web.Response:
    """`content` as JSON; `index` adds the headers of a read. `more`: `status`, `headers`."""
    encoded = msgspec.json.encode(content)
    if "pretty" in request.query:
        encoded = msgspec.json.format(encoded, indent=4)
    headers = {**consul_headers(index), **more.get("headers", {})}
    return web.Response(status=more.get("status", 200), body=encoded, content_type=JSON, headers=headers)


def empty(index: int | None = None, status: int = 200) -> web.Response:
    """No body: what Consul's agent answers to writes, and its KV to a missing key."""
    return web.Response(status=status, headers=consul_headers(index))


def consul_headers(index: int | None) -> dict[str, str]:
    """The embedded registry has one writer and no followers: always the leader, never stale."""
    if index is None:
        return {}
    return {"X-Consul-Index": str(max(index, 1)), "X-Consul-KnownLeader": "true", "X-Consul-LastContact": "0"}
