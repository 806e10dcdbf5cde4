"""Reading Consul's catalogue: names, one service, everything; each answer with its index and how old it is.

https://developer.hashicorp.com/consul/api-docs/health, /catalog and /api-docs/features/consistency
"""

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import msgspec
from consul import base  # type: ignore[import-untyped]  # the package has no types

from registry import durations, keys, values
from registry.backends import consul_service
from registry.backends.consul_http import Api, check
from registry.backends.consul_service import DumpNode, HealthRow
from registry.errors import Corrupt, Denied, Unavailable
from registry.store import Entry

T = TypeVar("T")


class _Named(msgspec.Struct, frozen=True):
    Service: str


class _Node(msgspec.Struct, frozen=True):
    Services: dict[str, _Named]


_NODE = msgspec.json.Decoder(_Node | None)
_NAMES = msgspec.json.Decoder(dict[str, list[str]])
_HEALTH = msgspec.json.Decoder(list[HealthRow] | None)
_DUMP = msgspec.json.Decoder(list[DumpNode] | None)


class Answer(msgspec.Struct, frozen=True):
    """`entries`: instances as documents under `services/`, by key; `names`: of services, as Consul spells them.

    `age`: seconds since the server that answered last heard its leader; `led`: it knows one.
    """

    index: int
    age: float
    led: bool
    entries: dict[str, Entry] = {}
    names: frozenset[str] = frozenset()


class Services:
    """Reads with the transport's token. Raises Unavailable, Denied."""

    def __init__(self, api: Api) -> None:
        self._api = api
        self._contact = (0.0, True)  # age and leader of the last answer that told them

    async def names(self, after: int, wait: float) -> Answer:
        """`after` 0: answer now, as the leader sees it; else wait for another index and take any server's word."""
        read = _reader("names of services", _NAMES)
        head, found = await self._get("/v1/catalog/services", read, after, wait)
        if not found:  # the servers' own service is always there: without rights Consul shows nothing
            raise Denied("services: Consul shows none, not even its own: the token may not read services")
        return msgspec.structs.replace(head, names=frozenset(found) - {consul_service.ITSELF})

    async def of_node(self, node: str, after: int, wait: float) -> Answer:
        """`names`: of services with an instance on this node."""
        head, found = await self._get(f"/v1/catalog/node/{node}", _reader(f"node {node}", _NODE), after, wait)
        names = frozenset(one.Service for one in found.Services.values()) if found is not None else frozenset()
        return msgspec.structs.replace(head, names=names - {consul_service.ITSELF})

    async def service(self, name: str, after: int, wait: float) -> Answer:
        head, rows = await self.rows(name, after, wait)
        return msgspec.structs.replace(head, entries=_entries(rows, head.index))

    async def rows(self, name: str, after: int, wait: float) -> tuple[Answer, list[HealthRow]]:
        """As Consul has them."""
        head, rows = await self._get(f"/v1/health/service/{name}", _reader(f"service {name}", _HEALTH), after, wait)
        return head, rows or []

    async def everything(self, after: int, wait: float) -> Answer:
        """All services in one answer: what Consul's own page shows. Wakes on every change of the catalogue."""
        head, nodes = await self._get("/v1/internal/ui/nodes", _reader("catalogue", _DUMP), after, wait)
        if not nodes:
            raise Denied("nodes: Consul shows none, not even its own: the token may not read nodes")
        rows = consul_service.rows_of_nodes(nodes)
        return msgspec.structs.replace(head, entries=_entries(rows, head.index))

    async def _get(
        self, path: str, read: Callable[[base.Response], tuple[Answer, T]], after: int, wait: float
    ) -> tuple[Answer, T]:
        params = []
        if after:
            params = [("index", str(after)), ("wait", durations.render(wait)), ("stale", "1")]
        head, found = await self._api.http.get(read, path, params=params)
        if head.age < 0:
            head = msgspec.structs.replace(head, age=self._contact[0], led=self._contact[1])
        self._contact = (head.age, head.led)
        return head, found


def _reader(what: str, decoder: msgspec.json.Decoder[T]) -> Callable[[base.Response], tuple[Answer, T]]:
    def read(answer: base.Response) -> tuple[Answer, T]:
        check(answer, what)
        try:
            found = decoder.decode(answer.content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise Unavailable(f"{what}: not an answer of a registry: {error}") from error
        if answer.headers.get("X-Consul-Query-Backend") == "streaming":
            # since 1.10 blocking queries of health are answered by a stream, which always says "no leader, 0 ms"
            return Answer(max(1, _number(answer.headers.get("X-Consul-Index", ""))), -1.0, False), found
        age = _number(answer.headers.get("X-Consul-LastContact", "")) / 1000
        led = answer.headers.get("X-Consul-KnownLeader", "true") != "false"
        return Answer(max(1, _number(answer.headers.get("X-Consul-Index", ""))), age, led), found

    return read


def _number(text: Any) -> int:
    return int(text) if isinstance(text, str) and text.isascii() and text.isdecimal() else 0


def _entries(rows: Iterable[HealthRow], index: int) -> dict[str, Entry]:
    found: dict[str, Entry] = {}
    for row in rows:
        try:
            one = consul_service.instance(row)
        except Corrupt:
            one = None
            key = keys.instance(*map(consul_service.name, (row.Service.Service, row.Node.Node, row.Service.ID)))
            # kept as what it is, so that the fold names it as a problem
            found[key] = Entry(key=key, value=b"meshd metadata cannot be read", version=index, created=index)
        if one is not None:
            key = keys.instance(one.service, one.node, one.id)
            found[key] = Entry(key=key, value=values.write(one), version=index, created=index)
    return found
