"""Classes 43 and 44 on a running `meshd`: what the table of rights says must be what the wired process does.

Requests come from another user of the same machine (uid 65534), as well as from root without a credential over TCP.
"""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.cluster import Cluster, Host, http
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(90)]

NOBODY = 65534
POLICY = "/v1/kv/mesh/v1/policy/service-intentions/api"
# becomes another user only after it has started: the interpreter and the directories may be root's alone
BECOME = f"""
import encodings.idna, http.client, json, os, socket, sys
os.chdir(sys.argv[1])
os.setgroups([]), os.setgid({NOBODY}), os.setuid({NOBODY})
"""
ASK = """
where, statuses = sys.argv[2], []
for method, path, body in json.loads(sys.argv[3]):
    connection = http.client.HTTPConnection("localhost" if where.endswith(".sock") else where)
    if where.endswith(".sock"):
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(where)
    connection.request(method, path, json.dumps(body), {"Content-Type": "application/json"})
    statuses.append(connection.getresponse().status)
print(json.dumps(statuses))
"""
GREETING = """
s = socket.socket(socket.AF_UNIX)
s.connect(sys.argv[2])
print(len(s.recv(10)))
"""


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    tool("meshd-proxy")
    if os.geteuid() != 0:
        pytest.skip("another user is needed to ask as: run as root")
    with Cluster(tmp_path_factory.mktemp("host")) as mesh:
        register = [{"Uids": [NOBODY], "Services": ["web"]}]
        made = mesh.host("a", Roles=["registry", "ca"], Registry={"Kind": "sqlite"}, Register=register)
        made.config["Development"] = False
        made.config["Advertise"] = {"Address": "192.0.2.1"}  # loopback is refused outside development
        mesh.init_authority(made)
        yield made.start()


def as_nobody(code: str, directory: Path, *args: str) -> str:
    """What this code prints, run by another user in `directory`."""
    command = [sys.executable, "-I", "-c", BECOME + code, str(directory), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False).stdout.strip()


def ask(host: Host, where: str, *calls: tuple[str, str, object]) -> list[int]:
    """Statuses that another user of this machine gets; none if it does not even get a connection."""
    statuses: list[int] = json.loads(as_nobody(ASK, host.run_dir, where, json.dumps(calls)) or "[]")
    return statuses


def tcp(host: Host) -> str:
    return host.api.removeprefix("http://")


def service(name: str, id_: str = "x-1") -> dict[str, object]:
    return {"Name": name, "ID": id_, "Port": 9}


WRITES: tuple[tuple[str, str, object], ...] = (
    ("PUT", POLICY, {}),
    ("DELETE", POLICY, {}),
    ("DELETE", "/v1/kv/mesh/v1/?recurse", {}),
    ("PUT", "/v1/kv/mesh/v1/config/mesh", {}),
    ("PUT", "/v1/kv/mesh/v1/ca/roots/evil", {}),
    ("PUT", "/v1/kv/mesh/v1/ca/tokens/used/evil", {}),
    ("PUT", "/v1/kv/mesh/v1/services/api/a/evil", {}),
    ("PUT", "/v1/kv/mesh/v1/revocations/evil", {}),
    ("PUT", "/v1/kv/mesh/v1/leases/a", {}),
    ("GET", "/v1/kv/mesh/v1/ca/?recurse", {}),
    ("PUT", "/v1/session/create", {}),
)
REFUSED = [403] * len(WRITES)


def test_another_user_has_none_of_the_daemons_rights(host: Host) -> None:
    assert ask(host, tcp(host), *WRITES) == REFUSED
    assert ask(host, host.socket.name, *WRITES) in ([], REFUSED)


def test_over_tcp_root_is_nobody_special(host: Host) -> None:
    assert [http(method, host.api + path, body=body).status for method, path, body in WRITES] == REFUSED


def test_a_user_registers_only_its_own_services(host: Host) -> None:
    register = "/v1/agent/service/register"
    calls = (
        ("PUT", register, service("payments", "pay-1")),
        ("PUT", register, service("web", "web-1")),
        ("PUT", "/v1/agent/service/deregister/web-1", None),
    )
    assert ask(host, tcp(host), *calls) == [403, 200, 200]
    assert host.register(service("payments", "pay-2")).status == 200, "root may"
    taken = (("PUT", "/v1/agent/service/deregister/pay-2", None), ("PUT", register, service("web", "pay-2")))
    assert ask(host, tcp(host), *taken) == [403, 403]


@pytest.mark.parametrize("header", [{"Origin": "http://evil.example"}, {"Origin": "null"}, {"Host": "evil.example"}])
def test_web_pages_and_rebound_names_are_refused(host: Host, header: dict[str, str]) -> None:
    for method, path in (
        ("GET", "/v1/agent/services"),
        ("PUT", "/v1/agent/service/register"),
        ("GET", "/v1/mesh/status"),
    ):
        assert http(method, host.api + path, body=service("web"), headers=header).status == 403, path


def test_secrets_on_disk_are_roots_alone(host: Host) -> None:
    """Keys, the store and the sockets: nothing of them opens for another user."""
    keys = [p for p in host.data_dir.rglob("*") if p.is_file() and p.suffix in (".key", ".db", ".sqlite")]
    assert [p for p in keys if p.name == "node.key"]
    assert [str(p) for p in (*keys, *_sockets(host.run_dir)) if p.stat().st_mode & 0o077] == []


def _sockets(directory: Path) -> list[Path]:
    return [p for p in directory.glob("proxy-*.sock") if p.is_socket()]


def test_sockets_that_were_widened_by_mistake_still_know_who_asks(host: Host) -> None:
    """The kernel's word for the peer's uid decides, not the mode of a file."""
    [control] = _sockets(host.run_dir)
    paths = (host.run_dir, host.socket, control)
    modes = [path.stat().st_mode & 0o777 for path in paths]
    try:
        for path in paths:
            path.chmod(0o777)
        greeting = as_nobody(GREETING, host.run_dir, control.name)
        statuses = ask(host, host.socket.name, *WRITES)
    finally:
        for path, mode in zip(paths, modes, strict=True):
            path.chmod(mode)
    assert greeting in ("", "0")
    assert statuses == REFUSED
    with socket.socket(socket.AF_UNIX) as own:
        own.connect(str(control))
        assert own.recv(10)


def test_refusals_are_one_json_line_each(host: Host) -> None:
    http("PUT", f"{host.api}/v1/kv/mesh/v1/policy/x%0a%22,%0d", body={})
    lines = host.log.read_text().splitlines()
    assert lines
    for line in lines:
        assert isinstance(json.loads(line), dict)
