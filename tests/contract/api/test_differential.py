"""The same requests, in the same order, to a real Consul 1.8.7 and to the embedded registry: same statuses and shapes.

Where the two differ on purpose, the step says why and what ours answers instead.
"""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest
from aiohttp.test_utils import TestClient

from tests.consul_agent import consul_agent

NOBODY = "adf4238a-882b-9ddc-4a9d-5b6758e4159e"
WEB = {"Name": "web", "ID": "web-1", "Port": 8080, "Tags": ["v2"], "Meta": {"version": "2"}}
ALIVE = {"Check": {"TTL": "60s", "Status": "passing"}}
NONE = "what does not exist is not found; Consul says 500"
SAFE = "400 with field and hint instead of an answer that only a log explains"


@dataclass(frozen=True)
class Step:
    """One request. `{index}` and `{session}` are what this server said before. `ours`: our status if it differs."""

    method: str
    path: str
    body: Any = None
    ours: int = 0
    reason: str = ""


def get(path: str, **more: Any) -> Step:
    return Step("GET", path, **more)


def put(path: str, body: Any = None, **more: Any) -> Step:
    return Step("PUT", path, body, **more)


def delete(path: str, **more: Any) -> Step:
    return Step("DELETE", path, **more)


def txn(*operations: dict[str, Any], **more: Any) -> Step:
    return put("/v1/txn", [{"KV": operation} for operation in operations], **more)


KV = (
    get("/v1/kv/a"),
    get("/v1/kv/a?recurse"),
    get("/v1/kv/a?keys"),
    put("/v1/kv/a", "x"),
    get("/v1/kv/a"),
    get("/v1/kv/a?raw"),
    get("/v1/kv/a?pretty"),
    get("/v1/kv/a?stale"),
    get("/v1/kv/a?consistent"),
    get("/v1/kv/a?stale&consistent"),
    get("/v1/kv/a?index=abc"),
    get("/v1/kv/a?index=1&wait=abc"),
    get("/v1/kv/a?index={index}&wait=10ms"),
    get("/v1/kv/a?index=1&wait=1s"),
    get("/v1/kv/a?dc=elsewhere"),
    get("/v1/kv/"),
    put("/v1/kv/", "x"),
    delete("/v1/kv/"),
    put("/v1/kv/empty"),
    get("/v1/kv/empty"),
    get("/v1/kv/empty?raw"),
    put("/v1/kv/p/x/1", "1"),
    put("/v1/kv/p/x/2", "2"),
    put("/v1/kv/p/y", "3"),
    put("/v1/kv/pz", "4"),
    get("/v1/kv/p/?keys&separator=/"),
    get("/v1/kv/p/?keys"),
    get("/v1/kv/p?recurse"),
    get("/v1/kv/p/?recurse"),
    get("/v1/kv/a?keys&recurse"),
    put("/v1/kv/a?cas=0", "y"),
    put("/v1/kv/a?cas=999999", "y"),
    put("/v1/kv/a?cas={index}", "y"),
    put("/v1/kv/a?cas=x", "y", ours=400, reason=SAFE),
    put("/v1/kv/a?flags=x", "y", ours=400, reason=SAFE),
    put("/v1/kv/a?flags=18446744073709551615", "y"),
    get("/v1/kv/a"),
    delete("/v1/kv/none"),
    delete("/v1/kv/a?cas=0"),
    delete("/v1/kv/a?cas=999999"),
    delete("/v1/kv/none?cas=0"),
    delete("/v1/kv/none?cas=5"),
    delete("/v1/kv/p/?recurse"),
    get("/v1/kv/p/?recurse"),
    delete("/v1/kv/a"),
    get("/v1/kv/a"),
    put("/v1/kv/big", "a" * 524288),
    put("/v1/kv/big", "a" * 524289),
    Step("POST", "/v1/kv/a"),
    Step("HEAD", "/v1/kv/a"),
    put("/v1/kv/a%20b", "x", ours=400, reason="such keys cannot be written on newer servers (1.22)"),
)
SESSIONS = (
    put("/v1/session/create", {}),
    put("/v1/session/create"),
    put("/v1/session/create", {"name": "x", "behavior": "delete", "ttl": "10s", "lockdelay": "0s"}),
    get("/v1/session/info/{session}"),
    put("/v1/session/renew/{session}"),
    get("/v1/session/list"),
    get("/v1/session/node/n1"),
    get("/v1/session/node/other"),
    get(f"/v1/session/info/{NOBODY}"),
    put(f"/v1/session/renew/{NOBODY}"),
    put(f"/v1/session/destroy/{NOBODY}"),
    put("/v1/session/renew/x", ours=404, reason="what is no session is not found; Consul parses UUIDs first"),
    put("/v1/kv/lock?acquire={session}", "1"),
    put("/v1/kv/lock?acquire={session}", "2"),
    get("/v1/kv/lock"),
    put(f"/v1/kv/lock?acquire={NOBODY}", "3"),
    put("/v1/kv/lock", "4"),
    put("/v1/kv/lock?release={session}", "5"),
    put("/v1/kv/lock?release={session}", "6"),
    get("/v1/kv/lock"),
    put("/v1/kv/lock?acquire={session}&cas=0", "7"),
    put("/v1/kv/lock?acquire={session}", "8"),
    put("/v1/session/destroy/{session}"),
    get("/v1/kv/lock"),
    put("/v1/session/destroy/{session}"),
    put("/v1/session/create", {"TTL": "5s"}, ours=400, reason=SAFE),
    put("/v1/session/create", {"TTL": "x"}, ours=400, reason=SAFE),
    put("/v1/session/create", {"Behavior": "x"}, ours=400, reason=SAFE),
    put("/v1/session/create", "{x"),
)
TXN = (
    txn({"Verb": "set", "Key": "t/1", "Value": "eA=="}, {"Verb": "get", "Key": "t/1"}),
    txn({"Verb": "cas", "Key": "t/1", "Value": "eQ==", "Index": 0}),
    txn({"Verb": "cas", "Key": "t/1", "Index": 1}, {"Verb": "get", "Key": "none"}),
    txn({"Verb": "get-tree", "Key": "t/"}, {"Verb": "check-not-exists", "Key": "none"}),
    txn({"Verb": "check-index", "Key": "t/1", "Index": 3}),
    txn({"Verb": "check-index", "Key": "none", "Index": 3}),
    txn({"Verb": "check-not-exists", "Key": "t/1"}),
    txn({"Verb": "check-session", "Key": "t/1", "Session": NOBODY}),
    txn({"Verb": "lock", "Key": "t/1", "Session": NOBODY}, {"Verb": "unlock", "Key": "t/1", "Session": NOBODY}),
    put("/v1/session/create", {}),
    txn({"Verb": "lock", "Key": "t/2", "Session": "{session}", "Value": "eA=="}, {"Verb": "get", "Key": "t/2"}),
    txn({"Verb": "check-session", "Key": "t/2", "Session": "{session}"}),
    txn({"Verb": "unlock", "Key": "t/2", "Session": "{session}", "Value": "eQ=="}),
    txn({"Verb": "set", "Key": "t/3"}, {"Verb": "delete-cas", "Key": "t/1", "Index": 1}),
    txn({"Verb": "delete-cas", "Key": "t/9", "Index": 1}),
    txn({"Verb": "delete", "Key": "t/1"}, {"Verb": "delete-tree", "Key": "t/"}, {"Verb": "get-tree", "Key": "t/"}),
    txn({"Verb": "zzz", "Key": "t/1"}),
    txn(),
    put("/v1/txn", [{}]),
    put("/v1/txn", "{x"),
    txn(*({"Verb": "set", "Key": f"m/{n}"} for n in range(64))),
    txn(*({"Verb": "set", "Key": f"m/{n}"} for n in range(65))),
)
SERVICES = (
    put("/v1/agent/service/register", WEB | ALIVE),
    get("/v1/agent/services"),
    get("/v1/agent/service/web-1"),
    get("/v1/agent/service/none"),
    get("/v1/agent/checks"),
    get("/v1/agent/members"),
    get("/v1/agent/health/service/id/web-1"),
    get("/v1/agent/health/service/id/web-1?format=text"),
    get("/v1/agent/health/service/id/none"),
    get("/v1/agent/health/service/name/web"),
    get("/v1/agent/health/service/name/none"),
    get("/v1/health/service/web?passing"),
    get("/v1/health/service/web?passing=1&tag=v2"),
    get("/v1/health/service/web?tag=none"),
    get("/v1/health/service/none"),
    get("/v1/health/service/web?index={index}&wait=10ms"),
    get("/v1/health/checks/web"),
    get("/v1/health/checks/none"),
    get("/v1/health/node/n1"),
    get("/v1/health/node/none"),
    get("/v1/health/state/any"),
    get("/v1/health/state/passing"),
    get("/v1/health/state/critical"),
    get("/v1/catalog/services"),
    get("/v1/catalog/services?node-meta=a:b"),
    get("/v1/catalog/service/web"),
    get("/v1/catalog/service/web?tag=none"),
    get("/v1/catalog/service/none"),
    get("/v1/catalog/nodes"),
    get("/v1/catalog/nodes?node-meta=a:b"),
    get("/v1/catalog/node/n1"),
    get("/v1/catalog/node/none"),
    get("/v1/catalog/datacenters"),
    get("/v1/status/leader"),
    get("/v1/status/peers"),
    put("/v1/agent/check/warn/service:web-1?note=slow"),
    get("/v1/agent/health/service/id/web-1"),
    get("/v1/health/service/web?passing"),
    put("/v1/agent/check/update/service:web-1", {"Status": "critical", "Output": "down"}),
    get("/v1/agent/health/service/name/web"),
    put("/v1/agent/check/update/service:web-1", {"Status": "bad"}),
    put("/v1/agent/check/pass/service:web-1"),
    put("/v1/agent/check/pass/none", ours=404, reason=NONE),
    put("/v1/agent/service/maintenance/web-1?enable=true&reason=why"),
    get("/v1/agent/checks"),
    get("/v1/agent/health/service/id/web-1?format=text"),
    get("/v1/health/service/web"),
    put("/v1/agent/service/maintenance/web-1"),
    put("/v1/agent/service/maintenance/web-1?enable=x"),
    put("/v1/agent/service/maintenance/none?enable=true"),
    put("/v1/agent/service/maintenance/web-1?enable=False"),
    put("/v1/agent/service/maintenance/web-1?enable=T"),
    put("/v1/agent/service/maintenance/web-1?enable=false"),
    put("/v1/agent/check/register", {"Name": "more", "TTL": "5s", "ServiceID": "web-1"}),
    get("/v1/health/checks/web"),
    put("/v1/agent/check/register", {"TTL": "5s", "ServiceID": "web-1"}),
    put("/v1/agent/check/register", {"Name": "more", "TTL": "5s", "ServiceID": "none"}, ours=404, reason=NONE),
    put("/v1/agent/check/deregister/more"),
    put("/v1/agent/check/deregister/none"),
    put("/v1/agent/service/deregister/none"),
    put("/v1/agent/service/deregister/web-1"),
    get("/v1/health/service/web"),
    get("/v1/agent/services"),
)
REGISTRATIONS = (
    put("/v1/agent/service/register", "{"),
    put("/v1/agent/service/register", {}),
    put("/v1/agent/service/register", {"Name": "w", "Port": "80"}),
    put("/v1/agent/service/register", {"Name": "w", "Prt": 1}),
    put("/v1/agent/service/register", {"Name": "w", "Port": 80, "Check": {"TTL": "5x"}}),
    put("/v1/agent/service/register", {"Name": "w", "Port": 80, "Check": {"HTTP": "http://127.0.0.1:1"}}),
    put("/v1/agent/service/register", {"Name": "w", "Port": 70000}, ours=400, reason=SAFE),
    put("/v1/agent/service/register", {"Name": "w"}, ours=400, reason="an instance of the mesh has a port"),
    put(
        "/v1/agent/service/register",
        {"Name": "w", "Port": 80, "Check": {"Args": ["x"], "Interval": "5s"}},
        ours=400,
        reason="refused as well; Consul says 500",
    ),
    put("/v1/agent/service/register", {"name": "w", "port": 80, "tags": ["b", "a"], "enable_tag_override": False}),
    put("/v1/agent/service/register", WEB | {"Checks": [{"TTL": "60s"}, {"TTL": "60s", "Name": "b"}]}),
    get("/v1/agent/checks"),
    get("/v1/agent/services"),
    put("/v1/agent/service/register", {"Name": "w w", "Port": 80}, ours=400, reason="names are parts of keys"),
    get("/v1/agent/service/register", ours=404, reason="an instance may be called so"),
    get("/v1/none"),
    put("/v1/health/service/web"),
)


class Server:
    """One of the two, with what it said last."""

    def __init__(self, session: aiohttp.ClientSession, url: str) -> None:
        self._session = session
        self._url = url
        self._said = {"index": "1", "session": NOBODY}

    async def ask(self, step: Step) -> tuple[int, Any, bool]:
        """Status, shape of a good body, and whether there is an index."""
        body = step.body if step.body is None or isinstance(step.body, str) else json.dumps(step.body)
        path = self._filled(step.path)
        call = self._session.request(step.method, self._url + path, data=self._filled(body) if body else None)
        async with call as answer:
            content = await answer.read()
            index = answer.headers.get("X-Consul-Index")
        if index:
            self._said["index"] = index
        shaped = content[:1] in (b"{", b"[", b'"', b"n", b"t", b"f") and answer.content_type == "application/json"
        found = json.loads(content) if shaped else content.decode()
        if isinstance(found, dict) and set(found) == {"ID"}:
            self._said["session"] = found["ID"]
        # errors have a form of their own; those of a transaction and of health are answers
        plain = answer.status >= 400 and not (isinstance(found, list | dict) and "error" not in found)
        # ours tells the index of writes too
        return answer.status, None if plain else shape(found), bool(index) and step.method == "GET"

    def _filled(self, text: str) -> str:
        for name, value in self._said.items():
            text = text.replace("{" + name + "}", value)
        return text


def shape(value: Any) -> Any:
    """The names in a value and the kinds of what they hold. Consul's own service is no instance of ours."""
    if isinstance(value, dict):
        fields = {name: shape(item) for name, item in value.items() if name != "consul"}
        if isinstance(value.get("Tags"), dict):
            fields["Tags"] = "gossip"  # of a member: what Consul's agents tell one another
        return fields or "empty"
    if isinstance(value, list):
        kinds: list[Any] = []
        for item in map(shape, value):
            kinds += [item] if item not in kinds else []
        return kinds or "empty"
    if isinstance(value, bool):
        return value
    if value is None:
        return "empty"
    return "number" if isinstance(value, int | float) else "text"


@pytest.fixture(scope="module")
def consul_url() -> Any:
    with consul_agent() as url:
        yield url


@pytest.fixture
async def both(api: TestClient, consul_url: str) -> AsyncIterator[tuple[Server, Server]]:
    async with aiohttp.ClientSession() as session:
        yield Server(session, str(api.make_url("")).rstrip("/")), Server(session, consul_url)


STORIES = {"kv": KV, "sessions": SESSIONS, "txn": TXN, "services": SERVICES, "registrations": REGISTRATIONS}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
async def test_same_requests_same_answers(both: tuple[Server, Server], story: tuple[Step, ...]) -> None:
    ours, theirs = both
    wrong = []
    for number, step in enumerate(story):
        mine, consuls = await ours.ask(step), await theirs.ask(step)
        # a difference that is gone is to be taken off the list
        same = mine == consuls if not step.reason else mine[0] == step.ours != consuls[0]
        if not same:
            wrong.append(f"{number} {step.method} {step.path[:80]}\n  ours    {mine}\n  consul  {consuls}")
    assert not wrong, "\n".join(wrong)
