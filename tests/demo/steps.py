"""The story. Every function is one step; `story.broken` names the feature that a test breaks on purpose."""

import json
import os
import re
import shlex
import signal
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from cryptography import x509

from registry.ca import names
from tests.demo.registry import DemoRegistry
from tests.demo.show import Show
from tests.demo.traffic import Load, certificate_on_the_wire, until_status, versions
from tests.mesh.cluster import API, INBOUND, PEER, AppProcess, Cluster, Failed, Host, http, wait_for

UPSTREAM = 9101
RATE, REQUESTS = 200, 2000
SERVICES = {"web": ("a",), "api": ("b", "c")}

OPEN_TO_WEB = """\
Kind: service-intentions
Name: api
Sources:
  - Name: web
    Permissions:
      {first}
      - Action: allow
        HTTP: {{PathPrefix: /}}
"""
DENY_ADMIN = OPEN_TO_WEB.format(first="- {Action: deny, HTTP: {PathPrefix: /admin}}")
ALLOW_ALL = OPEN_TO_WEB.format(first="- {Action: allow, HTTP: {PathPrefix: /admin}}")


@dataclass
class Story:
    """What the steps share."""

    mesh: Cluster
    show: Show
    registry: DemoRegistry
    broken: str = ""
    apps: dict[str, AppProcess] = field(default_factory=dict)

    @property
    def a(self) -> Host:
        return self.mesh.hosts["a"]

    @property
    def url(self) -> str:
        return f"http://{self.a.address}:{UPSTREAM}"

    def meshctl(self, *args: str, stdin: str | None = None, check: bool = True) -> str:
        return self.show.run("meshctl", "--api", str(self.a.socket), *args, stdin=stdin, check=check)

    def apply(self, text: str) -> None:
        self.show.document(text)
        self.meshctl("apply", "-f", "-", "--wait", stdin=text)

    def put_key(self, key: str, text: str) -> None:
        self.registry.put_key(self.show, key, text)


def authority(story: Story) -> None:
    story.show.begin("authority", story.registry.title)
    story.registry.start()
    host = story.mesh.host("a", Roles=[*story.registry.roles], Registry=story.registry.config("a"))
    out = story.show.run("meshctl", "ca", "init", "--data-dir", str(host.data_dir), "--node", "a", "-o", "json")
    story.mesh.root_hash = json.loads(out)["root_hash"]
    story.show.say(f"   $ meshd run --config {host.directory.name}/meshd.yaml &")
    host.start()
    status = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)
    certificate = (host.data_dir / "identity" / "node.crt").read_text().count("BEGIN CERTIFICATE")
    story.show.check(
        f"host a is ready: {', '.join(story.registry.roles)} and proxy run",
        status["ready"] and status["proxy"]["connected"] and certificate >= 1,
        f"/readyz answers 200; proxy pid {status['proxy']['pid']}; {certificate} certificates on disk",
    )


def join(story: Story) -> None:
    story.show.begin("join", "Two hosts join with one-time tokens, pinned to the root's hash")
    peer = f"{story.a.address}:{PEER}"
    for name in ("b", "c"):
        directory = story.mesh.directory / name
        directory.mkdir(parents=True, exist_ok=True)
        token = directory / "join-token"
        story.meshctl("token", "create", "--node", name, "--service", "api", "--out", str(token))
        if story.broken == "join" and name == "c":
            token.write_text(token.read_text().swapcase())
        pinned = {"Address": peer, "TokenFile": str(token), "RootHash": story.mesh.root_hash}
        host = story.mesh.host(name, Registry=story.registry.config(name), Join=pinned)
        story.show.say(f"   $ meshd run --config {name}/meshd.yaml &")
        host.start()
    rows = http("GET", f"{story.a.api}/v1/catalog/nodes").json()
    identities = [identity_on_disk(story.mesh.hosts[name]) for name in ("b", "c")]
    story.show.check(
        "the registry knows three hosts",
        sorted(row["Node"] for row in rows) == ["a", "b", "c"],
        f"certificates on disk: {', '.join(identities)}",
    )


def identity_on_disk(host: Host) -> str:
    certificate = x509.load_pem_x509_certificates((host.data_dir / "identity" / "node.crt").read_bytes())[0]
    sans = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return str(sans.get_values_for_type(x509.UniformResourceIdentifier)[0])


def register(story: Story) -> None:
    story.show.begin("register", "Services register over HTTP, as in Consul")
    mesh = story.mesh
    web = mesh.app(story.a, "web", "web-1", port=8080)
    story.apps["web-1"] = web
    upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
    curl_register(story, story.a, registration("web", web, {"Protocol": "http", "Upstreams": upstreams}))
    for instance, host, version, port in (
        ("api-1", "b", "v1", 8080), ("api-2", "c", "v2", 8080), ("api-3", "c", "v1", 8081),
    ):  # fmt: skip
        app = mesh.app(mesh.hosts[host], "api", instance, version, port)
        story.apps[instance] = app
        if story.broken == "register" and instance == "api-2":
            continue
        curl_register(story, mesh.hosts[host], registration("api", app, {"Protocol": "http"}, version))
    seconds = 3 if story.broken == "register" else 15
    with suppress(Failed):  # the check below tells
        wait_for("three api instances are passing", lambda: len(passing(story)) == 3 and in_view(story) == 3, seconds)
    story.meshctl("services")
    healthy = [json.loads(http("GET", f"{app.url}/").body)["instance"] for app in story.apps.values()]
    story.show.check(
        "web and three api are registered and passing",
        in_view(story) == 3 and len(passing(story)) == 3,
        f"/v1/health/service/api?passing lists {len(passing(story))}; the apps answer as {', '.join(healthy)}",
    )


def registration(name: str, app: AppProcess, mesh: dict[str, object], version: str = "v1") -> dict[str, object]:
    check = {"HTTP": f"{app.url}/healthz", "Interval": "500ms", "Timeout": "1s"}
    return {
        "Name": name, "ID": app.instance, "Port": app.port, "Meta": {"version": version}, "Check": check, "Mesh": mesh,
    }  # fmt: skip


def curl_register(story: Story, host: Host, body: dict[str, object]) -> None:
    url = f"http://{host.address}:{API}/v1/agent/service/register"
    story.show.run("curl", "-sSf", "-X", "PUT", "--data", json.dumps(body), url)


def passing(story: Story) -> list[object]:
    rows: list[object] = http("GET", f"{story.a.api}/v1/health/service/api?passing").json()
    return rows


def in_view(story: Story) -> int:
    """Passing instances of api as host a's own meshd sees them."""
    rows = json.loads(story.a.meshctl("services", "-o", "json").stdout)
    return sum(row["passing"] for row in rows if row["name"] == "api")


def allowed(story: Story) -> None:
    story.show.begin("allowed", "An allowed call: web calls api on its upstream port, mutual TLS between hosts")
    story.apply("Kind: mesh\nExplainDenials: true\n")
    story.apply(DENY_ADMIN if story.broken != "allowed" else DENY_ADMIN.replace("Name: web", "Name: nobody"))
    body = story.show.run("curl", "-sS", f"{story.url}/hello", check=False)
    answer = json.loads(body) if body.startswith("{") else {}
    caller = answer.get("headers", {}).get("x-meshd-source", "")
    instance = answer.get("instance", "nobody")
    logged = [r for app in story.apps.values() for r in app.requests() if r["path"] == "/hello"]
    sources = {v for r in logged for k, v in r["headers"] if k == "x-meshd-source"}
    mine = names.service_id("mesh.local", "web", "a", "web-1")
    story.show.check(
        f"{instance} answered, and was told who calls: {caller or '(nobody)'}",
        caller == mine and sources == {mine},
        f"the app's own log: {len(logged)} request from {', '.join(sources) or 'nobody'}",
    )
    service = "api/b/api-1"
    wanted = names.service_id("mesh.local", *service.split("/"))
    seen = certificate_on_the_wire(
        story.mesh.hosts["b"].address, INBOUND, names.sni(wanted),
        story.a.data_dir / "identity" / "svc" / "web" / "web-1", story.a.data_dir / "identity" / "roots.pem",
    )  # fmt: skip
    story.show.check("the callee proves who it is", seen == wanted, f"certificate on the wire at host b: {seen}")


def denied(story: Story) -> None:
    story.show.begin("denied", "A denied call names the intention")
    if story.broken == "denied":
        story.apply(ALLOW_ALL)
    before = sum(denials(story).values())
    out = story.show.run("curl", "-sS", "-w", " -> %{http_code}", f"{story.url}/admin", check=False)
    reached = [r for app in story.apps.values() for r in app.requests() if r["path"] == "/admin"]
    counted = sum(denials(story).values()) - before
    story.show.check(
        "403, and the body names service-intentions/api",
        "-> 403" in out and "service-intentions/api#Sources[0].Permissions[0]" in out,
        f"no app saw /admin ({len(reached)} requests logged); the callee's proxy counted {counted} denial",
    )
    story.show.check(
        "the request never reached an app", not reached and counted == 1, f"denials by rule: {denials(story)}"
    )
    story.meshctl("explain", "--from", "web", "--to", "api", "--path", "/admin", check=False)


def denials(story: Story) -> Counter[str]:
    found: Counter[str] = Counter()
    for name in ("b", "c"):
        for row in story.mesh.hosts[name].stats()["denied"]:
            found[row["name"]] += row["count"]
    return found


def lifted(story: Story) -> None:
    story.show.begin("lifted", "The deny is lifted by writing one key")
    story.show.document(ALLOW_ALL)
    write = (lambda: None) if story.broken == "lifted" else (lambda: story.put_key("service-intentions/api", ALLOW_ALL))
    elapsed = until_status(f"{story.url}/admin", 200, write, 3.0)
    reached = [app.instance for app in story.apps.values() for r in app.requests() if r["path"] == "/admin"]
    story.show.check(
        f"{elapsed:.0f} ms from the start of the write (its process included) to the first request that passed",
        elapsed > 0,
        f"the log of {', '.join(reached)} has /admin",
    )


def split(story: Story) -> None:
    story.show.begin("split", "90 % to v1, 10 % to v2, by key")
    subsets = "{v1: {Filter: 'Service.Meta.version == \"v1\"'}, v2: {Filter: 'Service.Meta.version == \"v2\"'}}"
    story.apply(f"Kind: service-resolver\nName: api\nSubsets: {subsets}\n")
    weights = (50, 50) if story.broken == "split" else (90, 10)
    sides = f"[{{Weight: {weights[0]}, ServiceSubset: v1}}, {{Weight: {weights[1]}, ServiceSubset: v2}}]"
    story.apply(f"Kind: service-splitter\nName: api\nSplits: {sides}\n")
    before = {name: len(app.requests()) for name, app in story.apps.items()}
    seen = versions(f"{story.url}/split", REQUESTS)
    logged = {name: len(app.requests()) - before[name] for name, app in story.apps.items() if name != "web-1"}
    story.show.check(
        f"{REQUESTS} requests: {seen['v1']} on v1, {seen['v2']} on v2 (140-260 expected)",
        140 <= seen["v2"] <= 260 and seen.total() == REQUESTS,
        f"the apps' own logs: {logged}",
    )
    story.show.check("the apps logged the same", logged["api-2"] == seen["v2"], f"api-2 logged {logged['api-2']}")
    for kind in ("service-splitter", "service-resolver"):
        story.meshctl("delete", f"{kind}/api")


def delay(story: Story) -> None:
    story.show.begin("delay", "A delay of 300 ms for 5 s, that ends by itself")
    lasting = 60 if story.broken == "delay" else 5
    until = datetime.now(UTC) + timedelta(seconds=lasting)
    text = f"Kind: fault\nName: slow-api\nService: api\nDelay: {{Fixed: 300ms}}\nUntil: {until.isoformat()}\n"
    story.apply(text)
    during = timed(story)
    ends = time.monotonic() + 8
    while (after := timed(story)) > 0.25 and time.monotonic() < ends:
        pass
    over = datetime.now(UTC) - until
    story.show.check(f"while it lasts: {during * 1000:.0f} ms", during >= 0.3, f"access through {story.url}")
    held = story.a.meshctl("get", "fault/slow-api").stdout
    story.show.check(
        f"afterwards: {after * 1000:.1f} ms, {over.total_seconds():.1f} s past Until, nobody did anything",
        after < 0.25 and over.total_seconds() > -0.5,
        f"the document still stands: {held.splitlines()[-1] if held else 'gone'}",
    )
    story.meshctl("delete", "fault/slow-api")


def timed(story: Story) -> float:
    started = time.monotonic()
    if http("GET", f"{story.url}/delay").status != 200:
        raise Failed("the delayed request did not pass")
    return time.monotonic() - started


def app_killed(story: Story) -> None:
    story.show.begin("app-killed", f"An app is killed under load ({RATE}/s, 8 connections)")
    victims = ("api-1", "api-2", "api-3") if story.broken == "app-killed" else ("api-1",)
    load = Load(f"{story.url}/load", rate=RATE, count=REQUESTS)
    served(story, "/load", 300)
    for victim in victims:
        story.show.say(f"   $ kill -9 {story.apps[victim].pid}  # {victim}")
        story.apps[victim].signal(signal.SIGKILL)
    report = load.result()
    survivors = {n: sum(r["path"] == "/load" for r in app.requests()) for n, app in story.apps.items() if n != "web-1"}
    story.show.check(
        f"{report['ok']} ok, {report['failed']} failed",
        report["failed"] == 0 and report["ok"] == REQUESTS,
        f"the apps' own logs: {survivors}",
    )
    wait_for("api-1 leaves traffic", lambda: len(passing(story)) < 3, 10)
    story.meshctl("services")


def served(story: Story, path: str, count: int) -> None:
    def enough() -> bool:
        return len([r for app in story.apps.values() for r in app.requests() if r["path"] == path]) >= count

    wait_for(f"{count} requests for {path} arrived", enough, 20, every=0.1)


def meshd_killed(story: Story) -> None:
    story.show.begin("meshd-killed", "meshd of host c is killed under load, and attaches again to its running proxy")
    host = story.mesh.hosts["c"]
    before = host.proxy_pids()
    load = Load(f"{story.url}/outage", rate=RATE, count=REQUESTS)
    served(story, "/outage", 300)
    assert host.process is not None
    story.show.say(f"   $ kill -9 {host.process.pid}  # meshd of host c")
    host.kill()
    if story.broken == "meshd-killed":
        kill_proxies(host)
    time.sleep(3)  # what systemd's RestartSec would do
    story.show.say("   $ meshd run --config c/meshd.yaml &")
    host.start()
    report = load.result()
    status = json.loads(host.meshctl("status", "-o", "json", check=False).stdout)
    story.show.check(
        f"{report['ok']} ok, {report['failed']} failed, proxy pid {status['proxy']['pid']} re-attached",
        report["failed"] == 0 and report["ok"] == REQUESTS and status["proxy"]["reattached"],
        f"proxy of host c before {before}, after {host.proxy_pids()}",
    )
    story.show.check("the same proxy carried on", host.proxy_pids() == before, f"pids from /proc: {host.proxy_pids()}")


def kill_proxies(host: Host) -> None:
    for pid in host.proxy_pids():
        os.kill(pid, signal.SIGKILL)


def table(story: Story) -> None:
    story.show.begin("table", "What the mesh counted")
    counted: Counter[tuple[str, ...]] = Counter()
    for host in story.mesh.hosts.values():
        for row in host.stats()["requests"]:
            key = (host.name, row["reporter"], row["source"], row["destination"], str(row["code"]), row["flags"] or "-")
            counted[key] += row["count"]
    story.show.table(
        ("HOST", "REPORTER", "SOURCE", "DESTINATION", "CODE", "FLAGS", "REQUESTS"),
        [(*key, count) for key, count in sorted(counted.items())],
    )
    ours = sum(n for key, n in counted.items() if key[1] == "source" and key[4] == "200")
    metric = sum(
        float(line.rsplit(" ", 1)[1])
        for line in story.a.metrics().splitlines()
        if re.match(r'meshd_requests_total\{.*code="200".*reporter="source"', line)
    )
    theirs = sum(len(app.requests()) for name, app in story.apps.items() if name != "web-1")
    story.show.check(
        f"{ours} requests answered 200 in the callers' view",
        ours == metric and 0 < ours <= theirs,
        f"/metrics of host a says {metric:.0f}; the apps logged {theirs} (retries and direct calls included)",
    )
    story.show.say(f"   look yourself: meshctl --api {shlex.quote(str(story.a.socket))} status   (with KEEP=1)")


STEPS: dict[str, Callable[[Story], None]] = {
    "authority": authority,
    "join": join,
    "register": register,
    "allowed": allowed,
    "denied": denied,
    "lifted": lifted,
    "split": split,
    "delay": delay,
    "app-killed": app_killed,
    "meshd-killed": meshd_killed,
    "table": table,
}
SET_UP = ("authority", "join", "register", "allowed")
