"""What documents do to requests, each written by key and judged by the real call, the app's own log and `explain`.

One mesh: host a (registry, `web`, `db`'s local twin) and host b (`api` v1 and v2 over HTTP, `db` over TCP).
"""

import json
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.mesh.cluster import AppProcess, Cluster, Host, http, wait_for
from tests.mesh.witness import closed, echo, logged, said_back, samples
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(60)]

API, DB, OLD, WIRE = 9101, 9103, 9104, 9105
ALLOW = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}
SUBSETS = {
    "v1": {"Filter": 'Service.Meta.version == "1" and "old" in Service.Tags'},
    "v2": {"Filter": 'Service.Meta.version != "1" or "new" in Service.Tags'},
}


class Story:
    """`web` on a calls `api` (two versions) and `db` (TCP) on b, and `old`, which has no mesh."""

    def __init__(self, mesh: Cluster, db: int, old: AppProcess) -> None:
        self.mesh, self.old = mesh, old
        self.a: Host = mesh.hosts["a"]
        self.b: Host = mesh.hosts["b"]
        web = mesh.app(self.a, "web", "web-1")
        names = {"api": API, "db": DB, "old": OLD, "wire": WIRE}
        upstreams = [{"Service": name, "LocalBindPort": port} for name, port in names.items()]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.apps = {name: self.serve(name, tag, number) for name, tag, number in (("v1", "old", 1), ("v2", "new", 2))}
        self.b.register({"Name": "db", "ID": "db-1", "Port": db})
        self.b.register({"Name": "wire", "ID": "wire-1", "Port": self.apps["v1"].port})
        self.apply(ALLOW)
        wait_for("both versions answer", lambda: {self.get().json()["version"] for _ in range(8)} == {"v1", "v2"}, 20)

    def serve(self, version: str, tag: str, number: int) -> AppProcess:
        app = self.mesh.app(self.b, "api", f"api-{number}", version)
        meta = {"Tags": [tag], "Meta": {"version": str(number)}, "Mesh": {"Protocol": "http"}}
        self.b.register({"Name": "api", "ID": f"api-{number}", "Port": app.port} | meta)
        return app

    def apply(self, *documents: dict[str, Any]) -> None:
        self.a.meshctl("apply", "-f", "-", "--wait", stdin=yaml.safe_dump_all(documents, sort_keys=False))

    def delete(self, *names: str) -> None:
        for name in names:
            self.a.meshctl("delete", name)

    def get(self, path: str = "/", port: int = API, method: str = "GET", **headers: str) -> Any:
        return http(method, f"http://{self.a.address}:{port}{path}", headers=headers)

    def explain(self, path: str, method: str = "GET", to: str = "api", **headers: str) -> dict[str, Any]:
        given = [part for name, value in headers.items() for part in ("-H", f"{name}: {value}")]
        command = ("explain", "--from", "web", "--to", to, "--path", path, "--method", method, "-o", "json", *given)
        done = self.a.meshctl(*command, check=False)
        found: dict[str, Any] = json.loads(done.stdout)
        assert done.returncode == (0 if found["verdict"] == "allow" else 1)
        return found


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("policy")) as mesh, ExitStack() as stack:
        mesh.first_host("a")
        b = mesh.join("b", ["api", "db", "wire"])
        yield Story(mesh, stack.enter_context(echo(b.address)), mesh.app(b, "old", "old-1"))


# ---- where requests go --------------------------------------------------------------------------------------------


def test_subsets_by_tags_and_meta_and_headers_that_the_app_sees(story: Story) -> None:
    edit = {"Set": {"x-edit": "set"}, "Add": {"x-more": "added"}, "Remove": ["x-secret"]}
    routes = [
        {"Match": {"HTTP": {"PathPrefix": "/old"}}, "Destination": {"ServiceSubset": "v1"}},
        {
            "Match": {"HTTP": {"PathPrefix": "/new"}},
            "Destination": {"ServiceSubset": "v2", "PrefixRewrite": "/", "RequestHeaders": edit},
        },
        {
            "Match": {"HTTP": {"Header": [{"Name": "x-user", "Exact": "ada"}], "Methods": ["POST"]}},
            "Destination": {"ServiceSubset": "v2"},
        },
        {
            "Match": {"HTTP": {"QueryParam": [{"Name": "beta", "Present": True}]}},
            "Destination": {"ServiceSubset": "v2"},
        },
    ]
    story.apply(
        {"Kind": "service-resolver", "Name": "api", "DefaultSubset": "v1", "Subsets": SUBSETS},
        {"Kind": "service-router", "Name": "api", "Routes": routes},
    )
    try:
        seen = {
            path: {story.get(path).json()["version"] for _ in range(6)} for path in ("/", "/old/x", "/new/x", "/?beta")
        }
        assert seen == {"/": {"v1"}, "/old/x": {"v1"}, "/new/x": {"v2"}, "/?beta": {"v2"}}
        assert story.get("/", method="POST", **{"x-user": "ada"}).json()["version"] == "v2"
        assert story.get("/", method="POST", **{"x-user": "eve"}).json()["version"] == "v1"
        answer = story.get("/new/x", **{"x-secret": "1", "x-edit": "mine"}).json()
        headers = answer["headers"]
        assert (headers["x-edit"], headers["x-more"], "x-secret" in headers) == ("set", "added", False)
        assert answer["path"] == "/x"
        split = next(row for row in story.explain("/new/x")["decisions"] if row["stage"] == "split")
        assert "subset v2" in split["detail"]
        view = story.a.meshctl("service", "api").stdout
        assert "service-router/api#Routes[1]@" in view
        assert "api/b/api-2  passing" in view
    finally:
        story.delete("service-router/api", "service-resolver/api")


@pytest.mark.parametrize(
    ("path", "verdict", "status", "flag"),
    [
        ("/free", "allow", 200, ""),
        ("/shut", "deny", 403, "UAEX"),
        ("/nowhere", "unavailable", 503, "NR"),
        ("/tea", "fault", 418, "FI"),
    ],
)
def test_explain_says_what_the_real_request_gets(story: Story, path: str, verdict: str, status: int, flag: str) -> None:
    permissions = [
        {"Action": "deny", "HTTP": {"PathPrefix": "/shut"}},
        {"Action": "allow", "HTTP": {"PathPrefix": "/"}},
    ]
    nowhere = {"Match": {"HTTP": {"PathPrefix": "/nowhere"}}, "Destination": {"ServiceSubset": "gone"}}
    tea = {"Match": {"HTTP": {"PathPrefix": "/tea"}}, "Abort": {"HTTPStatus": 418, "Percent": 100}}
    if path == "/free":  # the first of the four writes, the last one clears: they share one state
        story.apply(
            ALLOW | {"Sources": [{"Name": "web", "Permissions": permissions}]},
            {"Kind": "service-router", "Name": "api", "Routes": [nowhere]},
            {"Kind": "fault", "Name": "tea", "Service": "api", "Until": "2099-01-01T00:00:00Z", **tea},
        )
    found = story.explain(path)
    answer = story.get(path)
    assert (found["verdict"], answer.status) == (verdict, status)
    if flag:
        assert f"[{flag}]" in answer.body.decode()
        row = logged(story.a, reporter="source", path=path, code=status, flags=flag)
        if flag != "UAEX":  # the callee decides about that: its own log names the rule
            assert row["origin"] in [one["origin"] for one in found["decisions"]]
    if path == "/shut":
        denied = logged(story.b, reporter="destination", path=path, flags="UAEX")
        assert denied["origin"] in [one["origin"] for one in found["decisions"]]
    if path == "/tea":
        wait_for(
            "hits",
            lambda: json.loads(story.a.meshctl("service", "api", "-o", "json").stdout)["faults"][0]["hits"] == 1,
            5,
        )
        story.apply(ALLOW)
        story.delete("service-router/api", "fault/tea")


def test_a_split_to_a_subset_that_is_missing_is_503_and_named_in_status(story: Story) -> None:
    splits = [{"Weight": 0, "Service": "api"}, {"Weight": 100, "ServiceSubset": "v7"}]
    story.apply({"Kind": "service-splitter", "Name": "api", "Splits": splits})
    try:
        answer = story.get()
        assert (answer.status, b"no subset v7" in answer.body, b"[NR]" in answer.body) == (503, True, True)
        assert story.explain("/")["verdict"] == "unavailable"
        status = story.a.meshctl("status").stdout  # exit 0: the document is in force, its rule cannot be followed
        assert "service-splitter/api at Splits[1]: warning: " in status
    finally:
        story.delete("service-splitter/api")


def test_retries_on_5xx_and_a_try_that_takes_too_long(story: Story) -> None:
    destination = {"NumRetries": 2, "RetryOn": ["5xx"], "PerTryTimeout": "250ms", "RequestTimeout": "5s"}
    route = {"Match": {"HTTP": {"PathPrefix": "/again"}}, "Destination": destination}
    story.apply({"Kind": "service-router", "Name": "api", "Routes": [route]})
    try:
        for app in story.apps.values():
            app.control(fail=1)
        assert story.get("/again/1").status == 200
        assert logged(story.a, reporter="source", path="/again/1", code=200)["attempts"] >= 2
        for app in story.apps.values():
            app.control(fail=1)
        assert {story.get("/once").status for _ in range(6)} == {200, 503}  # no RetryOn there: the app's own answer
        for app in story.apps.values():
            app.control(delay=2, fail=0)
        answer = story.get("/again/2")
        assert (answer.status, b"[UT" in answer.body) == (504, True)
        assert "UT" in logged(story.a, reporter="source", path="/again/2", code=504)["flags"]
    finally:
        for app in story.apps.values():
            app.control(delay=0, fail=0)
        story.delete("service-router/api")


# ---- who may ------------------------------------------------------------------------------------------------------


def test_permissions_by_path_method_and_header(story: Story) -> None:
    permissions = [
        {"Action": "deny", "HTTP": {"PathExact": "/secret"}},
        {"Action": "allow", "HTTP": {"PathPrefix": "/", "Methods": ["GET"]}},
        {"Action": "allow", "HTTP": {"PathPrefix": "/", "Header": [{"Name": "x-role", "Exact": "admin"}]}},
    ]
    story.apply(ALLOW | {"Sources": [{"Name": "web", "Permissions": permissions}]})
    try:
        for path, method, headers, status in (
            ("/open", "GET", {}, 200),
            ("/secret", "GET", {}, 403),
            ("/a/../secret", "GET", {}, 403),  # one normal form for the rule and for the app
            ("/%73ecret", "GET", {}, 403),
            ("/open", "POST", {}, 403),
            ("/open", "POST", {"x-role": "admin"}, 200),
            ("/secret", "POST", {"x-role": "admin"}, 403),
        ):
            assert story.get(path, method=method, **headers).status == status, (path, method, headers)
            if "%" not in path and ".." not in path:
                verdict = story.explain(path, method, **headers)["verdict"]
                assert verdict == ("allow" if status == 200 else "deny"), (path, method, headers)
    finally:
        story.apply(ALLOW)


def test_a_tcp_service_is_relayed_both_ways_and_only_for_whom_it_is_allowed(story: Story) -> None:
    assert said_back(story.a.address, DB) == b""  # nobody said that web may
    before = samples(story.b, "meshd_denied_total")
    assert said_back(story.a.address, DB) == b""
    wait_for("counted", lambda: samples(story.b, "meshd_denied_total") > before, 5)
    story.apply({"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "web", "Action": "allow"}]})
    big = bytes(range(256)) * 1024
    with socket.create_connection((story.a.address, DB), 5) as sock:
        sock.sendall(big)
        found = b""
        while len(found) < len(big):
            found += sock.recv(65536)
        assert found == big
        assert samples(story.a, "meshd_tcp_connections_active", destination="db") == 1
        started = time.monotonic()
        story.apply({"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "web", "Action": "deny"}]})
        assert closed(sock, 2), "a connection that is no longer allowed ends"
        assert time.monotonic() - started < 5
    assert said_back(story.a.address, DB) == b""
    wait_for("closed", lambda: samples(story.a, "meshd_tcp_connections_active", destination="db") == 0, 5)
    story.delete("service-intentions/db")


def test_the_protocol_of_the_document_wins_over_the_registration(story: Story) -> None:
    """`wire` is registered without a protocol: tcp. The document makes it http, with permissions by path."""
    permission = {"Action": "allow", "HTTP": {"PathPrefix": "/open"}}
    rule = {"Kind": "service-intentions", "Name": "wire", "Sources": [{"Name": "web", "Permissions": [permission]}]}
    story.apply(rule)
    assert said_back(story.a.address, WIRE, b"GET /open HTTP/1.1\r\nHost: x\r\n\r\n") == b""  # bytes are no paths
    story.apply({"Kind": "service-defaults", "Name": "wire", "Protocol": "http"})
    try:
        wait_for("http now", lambda: story.get("/open", WIRE).status == 200, 5)
        assert story.get("/shut", WIRE).status == 403
        assert "Protocol" in story.a.meshctl("service", "wire").stdout
    finally:
        story.delete("service-defaults/wire", "service-intentions/wire")
    wait_for("tcp again", lambda: said_back(story.a.address, WIRE, b"GET / HTTP/1.1\r\nHost: x\r\n\r\n") == b"", 5)


def test_a_service_without_mesh_is_called_only_where_plaintext_is_allowed(story: Story) -> None:
    """An instance that somebody else wrote into the registry, without an inbound port of the mesh."""
    key = f"{story.a.api}/v1/kv/mesh/v1/services/old/x/old-1"
    stored = json.loads(http("GET", f"{story.a.api}/v1/kv/mesh/v1/services/api/b/api-1?raw").body)
    foreign = foreign_instance(stored, story.old)
    assert http("PUT", key, body=foreign).status == 200
    wait_for("known", lambda: "old/x/old-1" in story.a.meshctl("service", "old", check=False).stdout, 5)
    answer = story.get("/", OLD)
    assert answer.status == 503
    assert len(story.old.requests()) == 0
    override = {"Overrides": [{"Name": "old", "AllowPlaintext": True}]}
    story.apply({"Kind": "service-defaults", "Name": "web", "UpstreamConfig": override})
    try:
        wait_for("plaintext", lambda: story.get("/", OLD).status == 200, 5)
        shown = story.a.meshctl("service", "old").stdout
        assert re.search(r"old/x/old-1 +passing +plaintext", shown), shown  # no host that could hold a lease
        assert "DefaultIntention" not in shown  # nobody enforces one there
        assert story.explain("/", to="old")["verdict"] == "allow"
    finally:
        story.delete("service-defaults/web")
        http("DELETE", key)


def foreign_instance(like: dict[str, Any], app: AppProcess) -> dict[str, Any]:
    """The stored form of an instance, taken from one of ours, as a foreign tool would write it: without Inbound."""
    spelled = {name.lower(): name for name in like}
    found = {spelled[name]: like[spelled[name]] for name in ("mesh",) if name in spelled}
    values = {"service": "old", "node": "x", "id": "old-1", "address": app.address, "port": app.port}
    return found | {spelled.get(name, name): value for name, value in values.items()}


# ---- revocation ---------------------------------------------------------------------------------------------------


def test_a_revocation_by_key_ends_live_connections_and_refuses_new_ones(story: Story) -> None:
    story.apply({"Kind": "service-intentions", "Name": "db", "Sources": [{"Name": "web", "Action": "allow"}]})
    assert story.get().status == 200
    key = f"{story.a.api}/v1/kv/mesh/v1/revocations/story"
    with socket.create_connection((story.a.address, DB), 5) as live:
        live.sendall(b"hello")
        assert live.recv(5) == b"hello"
        written = {"Identity": "spiffe://mesh.local/svc/web/n/a/i/web-1", "Reason": "the key was seen elsewhere"}
        assert http("PUT", key, body=written).status == 200
        started = time.monotonic()
        assert closed(live, 2)
        assert time.monotonic() - started < 1
    assert time.monotonic() - started < 1
    wait_for("refused", lambda: story.get().status != 200, 1)
    assert said_back(story.a.address, DB) == b""
    assert http("DELETE", key).status == 200
    wait_for("taken back", lambda: story.get().status == 200, 10)
    story.delete("service-intentions/db")


def test_a_frozen_host_is_named_by_apply_wait(story: Story) -> None:
    document = yaml.safe_dump({"Kind": "service-defaults", "Name": "api", "LocalConnectTimeout": "3s"})
    story.b.pause()
    try:
        done = story.a.meshctl("apply", "-f", "-", "--wait=1s", stdin=document, check=False)
    finally:
        story.b.resume()
    assert (done.returncode, "not in force: b: service-defaults/api" in done.stderr) == (1, True), done.stderr
    assert "not in force: a" not in done.stderr
    late: subprocess.CompletedProcess[str] = story.a.meshctl("apply", "-f", "-", "--wait", stdin=document)
    assert "unchanged" in late.stdout
    assert "in force on 2 of 2 hosts: a, b" in late.stdout
    story.delete("service-defaults/api")
    assert Path(story.b.data_dir).is_dir()
