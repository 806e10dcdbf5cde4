"""What an operator does with running hosts: checks, maintenance, deregistration, stop, restart, looking.

One mesh: host a (registry, authority, `web`), hosts b and c (an `api` each).
"""

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.demo.traffic import Load
from tests.mesh.cluster import BIN, AppProcess, Cluster, Failed, Host, Process, http, processes, random_net, wait_for
from tests.mesh.witness import samples
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(60)]

UPSTREAM = 9101
LABELS = {
    "meshd_requests_total": {"reporter", "source", "destination", "method", "code", "flags"},
    "meshd_request_duration_seconds_bucket": {"reporter", "source", "destination", "le"},
    "meshd_request_duration_seconds_count": {"reporter", "source", "destination"},
    "meshd_request_duration_seconds_sum": {"reporter", "source", "destination"},
    "meshd_tcp_connections_opened_total": {"reporter", "source", "destination"},
    "meshd_tcp_connections_closed_total": {"reporter", "source", "destination"},
    "meshd_tcp_connections_active": {"reporter", "source", "destination"},
    "meshd_upstream_attempts_total": {"source", "destination", "outcome"},
    "meshd_retry_budget_exhausted_total": {"destination"},
    "meshd_endpoints": {"service", "state"},
    "meshd_denied_total": {"intention"},
    "meshd_certificate_expiry_timestamp_seconds": {"name"},
    "meshd_registry_last_event_timestamp_seconds": {"prefix"},
    "meshd_config_last_reload_successful": set(),
    "meshd_build_info": {"version", "node"},
}
BUCKETS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, float("inf"))


class Story:
    """`web` on a calls `api`, of which b and c have one each."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a: Host = mesh.first_host("a")
        self.b: Host = mesh.join("b", ["api", "extra"], DrainTimeout="5s")
        self.c: Host = mesh.join("c", ["api", "cli"], DrainTimeout="5s")
        web = mesh.app(self.a, "web", "web-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.a.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.apps = {"api-b": mesh.app(self.b, "api", "api-b"), "api-c": mesh.app(self.c, "api", "api-c")}
        self.serve(self.b, "api-b")
        self.serve(self.c, "api-c")
        self.c.register({"Name": "cli", "ID": "cli-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        sources = [{"Name": name, "Action": "allow"} for name in ("web", "cli")]
        self.a.apply({"Kind": "service-intentions", "Name": "api", "Sources": sources})
        self.url = f"http://{self.a.address}:{UPSTREAM}/"
        self.other_url = f"http://{self.c.address}:{UPSTREAM}/"  # a caller whose proxy has ejected nobody
        self.both_serve()

    def serve(self, host: Host, instance: str) -> None:
        port = self.apps[instance].port
        host.register({"Name": "api", "ID": instance, "Port": port, "Mesh": {"Protocol": "http"}})

    def served_by(self, url: str = "") -> set[str]:
        return {http("GET", url or self.url).json()["instance"] for _ in range(8)}

    def both_serve(self) -> None:
        wait_for("both serve", lambda: self.served_by() == {"api-b", "api-c"}, 20)

    def only(self, instance: str) -> None:
        wait_for(f"only {instance} serves", lambda: self.served_by() == {instance}, 10)

    def counts(self, service: str = "api") -> dict[str, Any]:
        rows = json.loads(self.a.meshctl("services", "-o", "json").stdout)
        return next((row for row in rows if row["name"] == service), {})

    def agent(self, host: Host, path: str) -> int:
        return http("PUT", f"{host.api}/v1/agent/{path}").status


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("ops")) as mesh:
        yield Story(mesh)


# ---- looking ------------------------------------------------------------------------------------------------------


def test_metrics_are_what_prometheus_reads_with_bounded_labels(story: Story) -> None:
    http("GET", story.url)
    http("BREW", story.url)
    answer = http("GET", f"{story.a.admin}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found: dict[str, set[str]] = {}
    types: dict[str, str] = {}
    for family in text_string_to_metric_families(answer.body.decode()):
        types |= {family.name: family.type}
        for sample in family.samples:
            found.setdefault(sample.name, set()).update(sample.labels)
    named = {name.removesuffix("_total") for name in LABELS} | {"meshd_request_duration_seconds"}
    missing = {name for name in named if name not in types and f"{name}_total" not in types and name not in found}
    assert missing == set()
    for name, labels in LABELS.items():
        assert found.get(name, labels) == labels, name
    assert samples(story.a, "meshd_requests_total", method="OTHER") >= 1
    bounds = {
        float(sample.labels["le"])
        for family in text_string_to_metric_families(answer.body.decode())
        for sample in family.samples
        if sample.name == "meshd_request_duration_seconds_bucket"
    }
    assert bounds == set(BUCKETS)
    assert samples(story.a, "meshd_endpoints", service="api", state="passing") == 2


def test_live_ready_and_status_pages(story: Story) -> None:
    assert http("GET", f"{story.b.admin}/livez").body == b"ok\n"
    assert http("GET", f"{story.b.admin}/readyz").body == b"ok\n"
    status = http("GET", f"{story.b.admin}/status").json()
    assert (status["node"], status["ready"], status["settings"]["LeaseTTL"]) == ("b", True, 10.0)
    secret = (story.b.data_dir / "identity" / "node.key").read_text().splitlines()[1]
    assert secret not in json.dumps(status)


NOUNS = (
    ("status",), ("services",), ("service", "api"), ("get",), ("cert", "list"), ("proxy", "config"), ("proxy", "stats"),
    ("explain", "--from", "web", "--to", "api"),
)  # fmt: skip


@pytest.mark.parametrize("noun", NOUNS, ids=" ".join)
def test_every_noun_prints_a_table_json_and_yaml(story: Story, noun: tuple[str, ...]) -> None:
    table = story.a.meshctl(*noun).stdout
    as_json = json.loads(story.a.meshctl(*noun, "-o", "json").stdout)
    as_yaml = yaml.safe_load(story.a.meshctl(*noun, "-o", "yaml").stdout)
    assert type(as_json) is type(as_yaml)
    if isinstance(as_json, dict):
        assert as_json.keys() == as_yaml.keys()
    assert {"status": "host a  ready", "cert": "spiffe://mesh.local/node/a"}.get(noun[0], "api") in table
    assert not re.search(r"None|True|False|frozenset|Struct\(", table), table
    assert max(map(len, table.splitlines())) <= 200


def test_service_shows_every_value_with_who_set_it(story: Story) -> None:
    defaults = {"Kind": "service-defaults", "Name": "api", "MaxInboundConnections": 99}
    story.a.apply(defaults)
    try:
        shown = story.a.meshctl("service", "api").stdout
        assert re.search(r"MaxInboundConnections +99 +service-defaults/api#MaxInboundConnections@\d+", shown), shown
        assert re.search(r"RequestTimeout +15s +default#route", shown)
        assert re.search(r"Protocol +http +registration of api/b/api-b and 1 more", shown), shown
        assert re.search(r"web +allow +service-intentions/api#Sources\[0\]@\d+", shown)
    finally:
        story.a.meshctl("delete", "service-defaults/api")


# ---- checks -------------------------------------------------------------------------------------------------------


def test_a_ttl_check_registers_passes_and_expires(story: Story) -> None:
    port = story.apps["api-b"].port
    story.b.register({"Name": "extra", "ID": "extra-1", "Port": port, "Check": {"TTL": "1500ms", "CheckID": "beat"}})
    assert wait_for("critical until the first beat", lambda: story.counts("extra"), 5)["critical"] == 1
    assert story.agent(story.b, "check/pass/beat") == 200
    wait_for("passing", lambda: story.counts("extra")["passing"] == 1, 15)
    wait_for("expired", lambda: story.counts("extra")["critical"] == 1, 15)
    assert "no update for 1.5 s" in story.a.meshctl("service", "extra").stdout
    assert story.agent(story.b, "service/deregister/extra-1") == 200


def test_an_http_check_flips_with_rise_and_fall(story: Story) -> None:
    app = story.apps["api-c"]
    check = {"HTTP": f"{app.url}/healthz", "Interval": "150ms", "SuccessBeforePassing": 2, "FailuresBeforeCritical": 2}
    basis = {"Name": "api", "ID": "api-c", "Port": app.port, "Mesh": {"Protocol": "http"}}
    story.c.register(basis | {"Check": check})  # critical until the first result, as in Consul
    wait_for("its first result", lambda: '"status": "passing"' in story.c.log.read_text(), 5)
    story.both_serve()
    app.control(healthy=False)
    try:
        wait_for("said why", lambda: "503 ill on request" in story.a.meshctl("service", "api").stdout, 10)
        story.only("api-b")
    finally:
        app.control(healthy=True)
    story.both_serve()
    lines = [json.loads(line) for line in story.c.log.read_text().splitlines() if '"event": "check"' in line]
    assert [line["status"] for line in lines][-2:] == ["critical", "passing"]
    url = f"{story.c.api}/v1/agent/service/register?replace-existing-checks=true"
    assert http("PUT", url, body=basis).status == 200
    story.both_serve()


# ---- out of traffic, and back -------------------------------------------------------------------------------------


@contextmanager
def no_request_fails(story: Story, seconds: float) -> Iterator[None]:
    """Under 150 requests a second, for as long as the body needs and `seconds` at least."""
    load = Load(story.url, rate=150, count=int(150 * seconds))
    try:
        yield
        report = load.result(30)
    finally:
        load.stop()
    assert report["failed"] == 0, report
    assert report["ok"] == int(150 * seconds)


def test_maintenance_takes_an_instance_out_and_back_without_a_failed_request(story: Story) -> None:
    with no_request_fails(story, 3):
        assert story.agent(story.b, "service/maintenance/api-b?enable=true&reason=disk") == 200
        story.only("api-c")
        assert (story.counts()["passing"], story.counts()["draining"]) == (1, 1)
        assert "disk" in story.a.meshctl("service", "api").stdout
        assert story.agent(story.b, "service/maintenance/api-b?enable=false") == 200
        story.both_serve()


def test_deregistering_withdraws_first(story: Story) -> None:
    with no_request_fails(story, 3):
        assert story.agent(story.b, "service/deregister/api-b") == 200
        stored = http("GET", f"{story.a.api}/v1/kv/mesh/v1/services/api/b/api-b?raw")
        assert b"withdrawn" in stored.body
        story.only("api-c")
    story.serve(story.b, "api-b")
    story.both_serve()


def test_sigterm_drains_and_the_host_comes_back_without_a_new_token(story: Story) -> None:
    with no_request_fails(story, 6):
        assert story.b.stop() == 0
        assert story.b.proxy_pids() == []
        story.only("api-c")
        token = Path(story.b.config["Join"]["TokenFile"])
        token.unlink()
        story.b.start()
        story.both_serve()
    assert '"joined"' in story.b.log.read_text()
    assert story.b.log.read_text().count('"event": "joined"') == 1


def test_a_host_that_restarts_while_the_registry_is_away_serves_from_disk(story: Story) -> None:
    """The registry's meshd is killed, then b loses meshd and proxy at once, as after a power cut."""
    story.a.kill()
    story.b.kill()
    for pid in story.b.proxy_pids():
        os.kill(pid, signal.SIGKILL)
    wait_for("b is down", lambda: story.b.proxy_pids() == [], 5)
    assert story.served_by() == {"api-c"}
    story.b.start()
    wait_for("b serves", lambda: "api-b" in story.served_by(story.other_url), 20)
    done = story.b.meshctl("status", check=False)
    assert "NOT REACHABLE, serving last known good" in done.stdout
    story.a.start()
    wait_for("well again", lambda: story.b.meshctl("status", check=False).returncode == 0, 20)


# ---- meshd dev ----------------------------------------------------------------------------------------------------


@pytest.fixture
def dev(tmp_path: Path) -> Iterator[tuple[Process, str, Path]]:
    """`meshd dev` on an address of its own, its state below tmp_path."""
    address = f"{random_net()}.1"
    sets = [f"Loopback={address}", f"Advertise.Address={address}", f"Bind.Inbound={address}", f"Bind.Peer={address}"]
    command = [str(BIN / "meshd"), "dev", *(part for one in sets for part in ("--set", one))]
    home = {"XDG_DATA_HOME": str(tmp_path / "share"), "XDG_RUNTIME_DIR": str(tmp_path / "run"), "HOME": str(tmp_path)}
    process = Process("meshd dev", command, tmp_path / "dev.log", home)
    try:
        yield process, address, tmp_path
    finally:
        process.end(8)
        for pid in left_behind(tmp_path):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def left_behind(directory: Path) -> list[int]:
    return [pid for pid, args in processes() if "meshd-proxy" in args[0] and any(str(directory) in one for one in args)]


def test_dev_is_one_command_to_a_visible_call(dev: tuple[Process, str, Path], tmp_path: Path) -> None:
    process, address, home = dev
    api = f"http://{address}:15500"
    wait_for("ready", lambda: http("GET", f"http://{address}:15590/readyz").status == 200, 20)
    said = (home / "dev.log").read_text()
    assert "OPEN ACCESS" in said
    assert f"export MESHD_API={api}" in said
    app = AppProcess(tmp_path, address, "api", "api-1", "v1")
    try:
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        for body in (
            {"Name": "api", "Port": app.port, "Mesh": {"Protocol": "http"}},
            {"Name": "web", "Port": app.port, "Mesh": {"Upstreams": upstreams}},
        ):
            assert http("PUT", f"{api}/v1/agent/service/register", body=body).status == 200
        key = f"{api}/v1/kv/mesh/v1/policy/service-intentions/api"
        wait_for("denied", lambda: http("GET", f"http://{address}:{UPSTREAM}/").status == 403, 10)
        assert http("PUT", key, body={"Sources": [{"Name": "web", "Action": "allow"}]}).status == 200
        wait_for("allowed", lambda: http("GET", f"http://{address}:{UPSTREAM}/").status == 200, 5)
        command = [str(BIN / "meshctl"), "status"]
        env = {**os.environ, "MESHD_API": api}
        assert "host dev  ready" in subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
    finally:
        app.end(2)
    assert len(left_behind(home)) == 1
    os.killpg(process.pid, signal.SIGINT)  # Ctrl-C reaches the whole foreground group
    started = time.monotonic()
    assert process.wait(15) == 0
    assert left_behind(home) == []
    if time.monotonic() - started > 5:
        raise Failed(f"Ctrl-C took {time.monotonic() - started:.1f} s")
    assert "Traceback" not in (home / "dev.log").read_text()
