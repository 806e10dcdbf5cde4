"""What traffic does while registry, leases and hosts disagree: the table of the design's section on the registry.

| registry says | probe says | lease | traffic | test |
|---|---|---|---|---|
| present, passing | good | live | yes | test_what_is_present_and_passing_is_used |
| present, passing | ejected | live | no, until the ejection ends | test_an_ejected_instance_is_back_at_its_end |
| present, warning | good | live | yes, at the warning weight | test_a_warning_is_used_at_its_weight |
| present, critical by its own check | any | live, gone | no | test_critical_is_not_used, also below |
| withdrawn, or drained | any | any | no new ones, running ones finish | test_withdrawn_and_maintained_... |
| lease gone, or key vanished | good | gone | yes, suspect, alarm | test_unvouched_ones_are_used_while_good |
| the same | bad or unknown | gone | no, at once | test_unvouched_ones_are_not_used_while_bad |
| brake: a wave | good, bad | gone | yes, no | test_a_wave_is_braked_and_only_what_proves_itself_is_used |
| unreachable | good | unknown | last known good, age shown; probes decide | test_without_the_registry_... |
| unreachable at start | - | - | from the signed snapshot | test_cold_start |
| store id absent or changed | any | any | nothing deleted, until adopted | test_wiped_registry |
| documents gone in a window | - | - | held | test_documents_that_vanish_..., test_meshctl_deletes_... |
| comes and goes | any | any | damped for a while | test_a_flapping_instance_... |
| an empty answer after a restart | good | new | yes | test_a_registry_that_comes_back_half_empty |
| an address that another service has now | bad: another identity | gone | no | test_reused_address |

`MaxOrphan` and `MaxSuspect` (15 min, 24 h) pass on a clock of their own: tests/unit/registry/test_fold.py. A change
that a watch never told: tests/unit/registry/test_reconcile.py.
"""

import http.client
import json
import signal
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from os import kill
from typing import Any

import pytest
import yaml

from tests.demo.traffic import Load
from tests.mesh.cluster import AppProcess, Cluster, Failed, Host, wait_for
from tests.mesh.cluster import http as call
from tests.mesh.witness import samples
from tests.tools import tool

pytestmark = [pytest.mark.mesh, pytest.mark.timeout(90)]

UPSTREAM = 9101
KV = "/v1/kv/mesh/v1/"
ALLOW = {"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]}
QUICK = {"PassiveHealthCheck": {"MaxFailures": 2, "BaseEjectionTime": "1s"}}
DEFAULTS = {"Kind": "service-defaults", "Name": "web", "UpstreamConfig": {"Defaults": QUICK}}


class Story:
    """Host a is registry and authority; `web` on b calls `api`: c1 and c2 on c, d1 on d, each with a check that the
    test speaks for."""

    def __init__(self, mesh: Cluster) -> None:
        self.mesh = mesh
        self.a, self.b = mesh.first_host("a"), mesh.join("b", ["web"])
        self.c, self.d = mesh.join("c", ["api"]), mesh.join("d", ["api"])
        web = mesh.app(self.b, "web", "web-1")
        upstreams = [{"Service": "api", "LocalBindPort": UPSTREAM}]
        self.b.register({"Name": "web", "ID": "web-1", "Port": web.port, "Mesh": {"Upstreams": upstreams}})
        self.homes = {"c1": self.c, "c2": self.c, "d1": self.d}
        self.apps = {name: mesh.app(host, "api", name) for name, host in self.homes.items()}
        for name in self.homes:
            self.serve(name)
        self.apply(ALLOW, DEFAULTS)
        self.calm()

    def serve(self, name: str, **more: object) -> None:
        check = {"TTL": "1h", "CheckID": f"{name}-said"}
        weights = {"Passing": 10, "Warning": 1}
        basis = {"Name": "api", "ID": name, "Port": self.apps[name].port, "Check": check, "Weights": weights}
        self.homes[name].register(basis | {"Mesh": {"Protocol": "http"}} | more)
        self.say(name, "pass")

    def say(self, name: str, word: str) -> None:
        assert call("PUT", f"{self.homes[name].api}/v1/agent/check/{word}/{name}-said").status == 200

    def apply(self, *documents: dict[str, Any]) -> None:
        self.a.meshctl("apply", "-f", "-", "--wait", stdin=yaml.safe_dump_all(documents, sort_keys=False))

    def delete(self, *keys: str) -> None:
        """As another tool does it: by key, without a word."""
        for key in keys:
            assert call("DELETE", f"{self.a.api}{KV}{key}").status == 200

    def states(self) -> dict[str, str]:
        """As the caller's host sees the instances of `api`."""
        found = call("GET", f"{self.b.api}/v1/mesh/services/api").json()["endpoints"]
        return {row["name"].rpartition("/")[2]: row["state"] for row in found}

    def become(self, **states: str) -> None:
        wait_for(f"instances are {states}", lambda: states.items() <= self.states().items(), 20)

    def calm(self) -> None:
        """Everything is used."""
        self.become(**dict.fromkeys(self.homes, "passing"))
        seen: set[str] = set()
        wait_for("all serve", lambda: seen.update(self.served()) or seen == set(self.homes), 30)

    def counts(self, requests: int) -> Counter[str]:
        """Who answered; every request must be answered well."""
        found: Counter[str] = Counter()
        with closing(http.client.HTTPConnection(self.b.address, UPSTREAM, timeout=10)) as connection:
            for _ in range(requests):
                connection.request("GET", "/")
                answer = connection.getresponse()
                body = answer.read()
                if answer.status != 200:
                    raise Failed(f"{answer.status} {body[:100]!r}")
                found[json.loads(body)["instance"]] += 1
        return found

    def only(self, *names: str) -> None:
        """These serve and nobody else does."""
        seen: set[str] = set()
        wait_for(f"{names} serve", lambda: seen.update(self.served()) or seen >= set(names), 30)
        assert seen | self.served(100) == set(names)

    def served(self, requests: int = 40) -> set[str]:
        return set(self.counts(requests))

    def proofs(self) -> dict[str, str]:
        """What the caller's proxy knows of suspects."""
        return {row["name"].rpartition("/")[2]: row.get("proof", "") for row in self.b.stats()["endpoints"]}

    def registry(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.b.meshctl("status", "-o", "json", check=False).stdout)["registry"]
        return found

    @contextmanager
    def unvouched(self, *hosts: Host, frozen: Sequence[Host] = ()) -> Iterator[None]:
        """Their meshd is killed and their lease is gone; of those in `frozen` the proxy says nothing either."""
        proxies = [pid for host in frozen for pid in host.proxy_pids()]
        for host in hosts:
            host.kill()
        for pid in proxies:
            kill(pid, signal.SIGSTOP)
        self.delete(*(f"leases/{host.name}" for host in hosts))
        try:
            yield
        finally:
            for pid in proxies:
                kill(pid, signal.SIGCONT)
            for host in hosts:
                host.start(ready=False)
            for host in hosts:
                host.wait_ready()
            for name in self.homes:
                self.say(name, "pass")
            self.calm()


@pytest.fixture(scope="module")
def story(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Story]:
    tool("meshd-proxy")
    with Cluster(tmp_path_factory.mktemp("consistent")) as mesh:
        yield Story(mesh)


# ---- what the registry says of an instance ------------------------------------------------------------------------


def test_what_is_present_and_passing_is_used(story: Story) -> None:
    assert story.states() == dict.fromkeys(story.homes, "passing")
    story.only(*story.homes)


def test_a_warning_is_used_at_its_weight(story: Story) -> None:
    story.say("c1", "warn")
    story.become(c1="warning")
    # a tenth of the others' share; as one of three it would have 67, and a slow moment of the others may add some
    wait_for("its share", lambda: 0 < story.counts(200)["c1"] < 40, 20)
    story.say("c1", "pass")
    story.calm()


def test_an_ejected_instance_is_back_at_its_end(story: Story) -> None:
    app = story.apps["d1"]
    app.signal(signal.SIGKILL)
    app.wait(5)
    wait_for("ejected", lambda: story.served() == {"c1", "c2"} and samples(story.b, "meshd_endpoints", state="ejected"))
    assert story.states()["d1"] == "passing"  # the registry knows nothing of it
    story.apps["d1"] = AppProcess(story.d.directory, story.d.address, "api", "d1", "v1", app.port)
    story.mesh.apps.append(story.apps["d1"])
    story.calm()


def test_critical_is_not_used(story: Story) -> None:
    story.say("c1", "fail")
    story.become(c1="critical")
    story.only("c2", "d1")
    story.say("c1", "pass")
    story.calm()


def test_withdrawn_and_maintained_ones_get_no_new_requests_and_finish_the_running_ones(story: Story) -> None:
    story.apps["c2"].control(delay=1.5)
    answers: list[int] = []
    before = len(story.apps["c2"].requests())
    callers: list[threading.Thread] = []

    def another() -> bool:
        """The balancer prefers whoever was quick last: call until one request is at c2."""
        callers.append(threading.Thread(target=lambda: answers.append(one(story))))
        callers[-1].start()
        return len(story.apps["c2"].requests()) > before

    wait_for("some are at c2", another, 10, 0.05)
    assert call("PUT", f"{story.d.api}/v1/agent/service/maintenance/d1?enable=true&reason=disk").status == 200
    assert call("PUT", f"{story.c.api}/v1/agent/service/deregister/c2").status == 200
    story.become(c2="draining", d1="draining")
    story.only("c1")
    for caller in callers:
        caller.join(15)
    assert answers == [200] * len(callers)
    story.apps["c2"].control(delay=0)
    assert call("PUT", f"{story.d.api}/v1/agent/service/maintenance/d1?enable=false").status == 200
    story.serve("c2")
    story.become(**dict.fromkeys(story.homes, "passing"))


def one(story: Story) -> int:
    return call("GET", f"http://{story.b.address}:{UPSTREAM}/", timeout=15).status


# ---- nobody vouches for a host --------------------------------------------------------------------------------------


def test_unvouched_ones_are_used_while_good(story: Story) -> None:
    story.say("c2", "fail")
    story.become(c2="critical")
    with story.unvouched(story.c):
        story.delete("services/api/c/c1")
        story.become(c1="suspect", c2="critical", d1="passing")
        wait_for("it has proved who it is", lambda: story.proofs().get("c1") == "good", 10)
        story.only("c1", "d1")
        assert samples(story.b, "meshd_endpoints", service="api", state="suspect") == 1
        assert story.registry()["suspect"] == {"api": 1}
        wait_for("said", lambda: "nobody vouches for" in story.b.log.read_text(), 10)
        assert "suspect, good" in story.b.meshctl("service", "api").stdout
    wait_for("said that it is over", lambda: "no instance is suspect any more" in story.b.log.read_text(), 10)


def test_unvouched_ones_are_not_used_while_bad(story: Story) -> None:
    with story.unvouched(story.c, frozen=[story.c]):
        story.become(c1="suspect", c2="suspect", d1="passing")
        wait_for("asked in vain", lambda: {story.proofs().get(name) for name in ("c1", "c2")} == {"bad"}, 15)
        story.only("d1")


def test_a_wave_is_braked_and_only_what_proves_itself_is_used(story: Story) -> None:
    with story.unvouched(story.c, story.d, frozen=[story.c]):
        story.delete(*(f"services/api/{host.name}/{name}" for name, host in story.homes.items()))
        story.become(**dict.fromkeys(story.homes, "suspect"))
        wait_for("asked", lambda: {story.proofs().get(n) for n in ("c1", "c2")} == {"bad"}, 15)
        wait_for("proved", lambda: story.proofs().get("d1") == "good", 10)
        story.only("d1")
        assert story.registry()["braked"] == {"api": 3}
        assert samples(story.b, "meshd_registry_brake_held", service="api") == 3
        assert "brake: 3 instances of api" in story.b.meshctl("status", check=False).stdout
        wait_for("said", lambda: "too many instances vanished at once" in story.b.log.read_text(), 10)


def test_a_whole_service_that_is_deregistered_goes_at_once(story: Story) -> None:
    for name, host in story.homes.items():
        assert call("PUT", f"{host.api}/v1/agent/service/deregister/{name}").status == 200
    story.become(**dict.fromkeys(story.homes, "draining"))
    assert one(story) == 503
    assert story.registry()["braked"] == {}
    for name in story.homes:
        story.serve(name)
    story.calm()


# ---- an instance that comes and goes --------------------------------------------------------------------------------


def test_a_flapping_instance_is_held_back_and_its_operator_s_word_ends_it(story: Story) -> None:
    for _ in range(4):
        story.say("d1", "fail")
        story.become(d1="critical")
        story.say("d1", "pass")
        wait_for("back, or held back", lambda: story.states()["d1"] in ("passing", "damped"), 10)
    story.become(d1="damped")
    story.only("c1", "c2")
    assert samples(story.b, "meshd_registry_damped", service="api") == 1
    assert "held back for another" in story.b.meshctl("service", "api").stdout
    assert "flapping: 1 instances of api" in story.b.meshctl("status", check=False).stdout
    story.serve("d1", Tags=["mended"])
    story.calm()
    assert story.registry()["damped"] == {}


# ---- documents ------------------------------------------------------------------------------------------------------

RESOLVERS = [{"Kind": "service-resolver", "Name": f"s{n}", "ConnectTimeout": "3s"} for n in range(6)]


def documents(story: Story, state: str) -> set[str]:
    """On the registry's host, which follows all policy; b follows what `web` uses."""
    rows = call("GET", f"{story.a.api}/v1/mesh/documents").json()
    return {row["name"] for row in rows if row["state"] == state and row["kind"] != "mesh"}


def test_documents_that_vanish_one_by_one_are_held_and_what_had_gone_comes_back(story: Story) -> None:
    story.apply(*RESOLVERS)
    gone = ["service-intentions/api", *(f"service-resolver/s{n}" for n in range(4))]
    story.delete("policy/" + gone[0])
    wait_for("a single one is believed", lambda: call("GET", f"http://{story.b.address}:{UPSTREAM}/").status == 403, 10)
    story.delete(*(f"policy/{name}" for name in gone[1:]))
    wait_for("it is in force again", lambda: one(story) == 200, 10)
    wait_for("held", lambda: documents(story, "held") == {"api", "s0", "s1", "s2", "s3"}, 10)
    words = "documents vanished from the store and stay in force"
    for host in (story.a, story.c):  # c serves `api`: its intentions are decided there
        wait_for("counted", lambda at=host: samples(at, "meshd_registry_held", prefix="policy/") == 1, 10)
        wait_for("said", lambda at=host: words in at.log.read_text(), 10)
        assert "policy/ is held" in host.meshctl("status", check=False).stdout
    story.apply(ALLOW)
    story.a.meshctl("delete", *gone[1:])
    wait_for("no longer held", lambda: documents(story, "held") == set(), 15)
    assert documents(story, "in-force") >= {"api", "s4", "s5"}
    assert not documents(story, "in-force") & {"s0", "s1", "s2", "s3"}


def test_meshctl_deletes_as_many_as_it_is_told_and_nothing_is_held(story: Story) -> None:
    story.apply(*RESOLVERS)
    errors = story.a.log.read_text().count("documents vanished from the store")
    story.a.meshctl("delete", *(f"service-resolver/s{n}" for n in range(5)))
    story.a.meshctl("delete", "service-resolver/s5")
    names = {f"s{n}" for n in range(6)}
    wait_for("gone", lambda: not (documents(story, "in-force") | documents(story, "held")) & names, 10)
    assert story.a.log.read_text().count("documents vanished from the store") == errors
    assert one(story) == 200


# ---- the registry itself --------------------------------------------------------------------------------------------


def test_without_the_registry_the_last_known_good_serves_and_its_age_is_shown(story: Story) -> None:
    story.a.kill()
    try:
        wait_for("noticed", lambda: not story.registry()["reachable"], 20)
        assert story.registry()["last_event_age"] > 0
        assert samples(story.b, "meshd_registry_staleness_seconds", service="api") > 0
        for pid in story.d.proxy_pids():
            kill(pid, signal.SIGSTOP)
        wait_for("the proxies decide", lambda: trying(story) == {"c1", "c2"}, 40)
        for pid in story.d.proxy_pids():
            kill(pid, signal.SIGCONT)
    finally:
        story.a.start()
    wait_for("answers again", lambda: story.registry()["reachable"], 30)
    story.calm()


def trying(story: Story) -> set[str]:
    with suppress(OSError, http.client.HTTPException):
        return story.served(10)
    return set()


def test_a_registry_that_comes_back_half_empty_costs_no_request_and_no_document(story: Story) -> None:
    """Same store-id, but services, leases and policy are gone: a file restored in part, a server still loading."""
    load = Load(f"http://{story.b.address}:{UPSTREAM}/", rate=100, count=1000)
    story.a.kill()
    with sqlite3.connect(story.a.data_dir / "registry.sqlite") as database:
        for prefix in ("services/", "leases/", "policy/"):
            database.execute("DELETE FROM entries WHERE key LIKE ?", (f"mesh/v1/{prefix}%",))
    database.close()
    story.a.start()
    wait_for("policy is held", lambda: "policy/" in story.registry()["held"], 30)
    report = load.result(60)
    assert (report["failed"], report["ok"]) == (0, 1000)
    story.apply(ALLOW, DEFAULTS)
    story.calm()
    assert story.registry()["held"] == {}
