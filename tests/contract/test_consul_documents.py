"""Documents mean here what they mean in a real Consul: filters choose the same instances, read entries are read."""

import json
import subprocess
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from policies import filter as filters
from policies.parse import parse
from registry.model import Instance
from tests.consul_agent import consul_agent
from tests.consul_server import NEWER, OLDER
from tests.tools import tool

FIXTURES = Path(__file__).parents[1] / "golden/consul"
WRITTEN = ("service-defaults", "service-resolver", "service-splitter", "service-router")  # that 1.8.7 knows

INSTANCES = (
    {"ID": "api-1", "Port": 1001, "Tags": ["v1", "eu"], "Meta": {"version": "1", "zone-a": "x"}},
    {"ID": "api-2", "Port": 1002, "Tags": ["v2"], "Meta": {"version": "2"}},
    {"ID": "other", "Port": 1003, "Tags": [], "Meta": {}},
)

FILTERS = (
    'Service.Meta.version == "1"',
    "Service.Meta.version == 1",
    "Service.Meta.version == `1`",
    'Service.Meta.version != "1"',
    'Service.Meta["zone-a"] == "x"',
    'Service.Meta.nothing == ""',
    'Service.Meta.nothing != "a"',
    '"v1" in Service.Tags',
    "v1 in Service.Tags",
    '"v" in Service.Tags',
    '"v1" not in Service.Tags',
    '"version" in Service.Meta',
    '"version" not in Service.Meta',
    '"pi" in Service.ID',
    '"1" in Service.Meta.version',
    '"1" in Service.Meta.nothing',
    '"1" not in Service.Meta.nothing',
    'not "v1" in Service.Tags and Service.Meta.version == "2"',
    'Service.ID == "other" or Service.Meta.version == "1" and "eu" in Service.Tags',
    '(Service.ID == "other" or Service.Meta.version == "1") and "v2" in Service.Tags',
    "Service.Port == 1002",
    'Service.Service == "api"',
    'Node.Node == "n1"',
    'Node.Meta["consul-network-segment"] == ""',
)


@pytest.fixture(scope="module", params=[OLDER, NEWER])
def consul(request: pytest.FixtureRequest) -> Iterator[str]:
    with consul_agent(request.param) as url:
        _put(f"{url}/v1/config", {"Kind": "service-defaults", "Name": "api", "Protocol": "http"})
        for said in INSTANCES:
            _put(f"{url}/v1/agent/service/register", {"Name": "api", **said})
        yield url


def _put(url: str, body: object) -> None:
    request = urllib.request.Request(url, json.dumps(body).encode(), method="PUT")
    with urllib.request.urlopen(request, timeout=10) as answer:
        assert answer.status == 200


def _instance(entry: dict[str, Any]) -> Instance:
    node, service = entry["Node"], entry["Service"]
    return Instance(
        service=service["Service"],
        node=node["Node"],
        id=service["ID"],
        address=service["Address"],
        port=service["Port"],
        tags=tuple(service["Tags"]),
        meta=service["Meta"] or {},
        node_meta=node["Meta"],
    )


def _health(url: str, expression: str = "") -> list[Instance]:
    query = urllib.parse.urlencode({"filter": expression} if expression else {})
    with urllib.request.urlopen(f"{url}/v1/health/service/api?{query}", timeout=10) as answer:
        return [_instance(entry) for entry in json.load(answer)]


@pytest.mark.parametrize("expression", FILTERS)
def test_filters_choose_as_in_consul(consul: str, expression: str) -> None:
    parsed = filters.parse(expression)
    assert not isinstance(parsed, filters.Fault), parsed
    ours = {instance.id for instance in _health(consul) if filters.holds(parsed, instance)}
    assert ours == {instance.id for instance in _health(consul, expression)}


@pytest.mark.parametrize("kind", WRITTEN)
def test_what_config_read_prints_is_read(consul: str, kind: str) -> None:
    """The fixture is written with the unmodified CLI; what the CLI then prints means what the fixture means."""
    fixture = (FIXTURES / f"{kind}.json").read_bytes()
    name = str(json.loads(fixture)["Name"])
    _consul(consul, "write", "-", stdin=fixture)
    printed = _consul(consul, "read", "-kind", kind, "-name", name)
    assert parse(kind, name, printed, version=1) == parse(kind, name, fixture, version=1)
    assert parse(kind, name, printed, version=1).problems == ()


def _consul(url: str, *arguments: str, stdin: bytes = b"") -> bytes:
    command = [str(tool("consul")), "config", *arguments[:1], f"-http-addr={url}", *arguments[1:]]
    done = subprocess.run(command, input=stdin, capture_output=True, timeout=30, check=False)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout
