"""Containers of a real Docker daemon on a real host: they register themselves, and leave before they are gone."""

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.demo.traffic import Load
from tests.dockerd.daemon import Dockerd
from tests.mesh.cluster import Cluster, Failed, Host, free_port, http, random_net, wait_for

pytestmark = [pytest.mark.mesh, pytest.mark.outages]

LABELS = {
    "meshd.service": "api",
    "meshd.port": "8080",
    "meshd.protocol": "http",
    "meshd.tags": "v1, blue",
    "meshd.meta.team": "shop",
    "meshd.check.http": "/healthz",
    "meshd.check.interval": "200ms",
}


@pytest.fixture(scope="module")
def docker() -> Iterator[Dockerd]:
    with Dockerd() as daemon:
        yield daemon


@pytest.fixture(scope="module")
def host(docker: Dockerd, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Host]:
    with Cluster(tmp_path_factory.mktemp("containers"), net=random_net()) as mesh:
        settings = {"Enabled": True, "Socket": docker.socket, "Interval": "2s"}
        yield mesh.first_host("a", Docker=settings)


@pytest.fixture
def run(docker: Dockerd) -> Iterator[Callable[..., str]]:
    """Containers of one test, removed after it."""
    started: list[str] = []

    def run(name: str, labels: dict[str, str], **more: Any) -> str:
        started.append(docker.run(name, labels, **more))
        return started[-1]

    yield run
    for one in started:
        docker.client.remove_container(one, force=True)


def instances(host: Host, service: str = "api", *, passing: bool = True) -> dict[str, dict[str, Any]]:
    """Instances by id, as callers find them."""
    found = http("GET", f"{host.api}/v1/health/service/{service}{'?passing' if passing else ''}").json()
    return {one["Service"]["ID"]: one["Service"] for one in found}


def call_api(host: Host) -> str:
    """Where `web` of this host calls `api`, which allows it."""
    port = free_port(host.address)
    upstream = {"Service": "api", "LocalBindPort": port}
    host.register({"Name": "web", "ID": "web-1", "Port": 1, "Mesh": {"Protocol": "http", "Upstreams": [upstream]}})
    host.apply({"Kind": "service-intentions", "Name": "api", "Sources": [{"Name": "web", "Action": "allow"}]})
    return f"http://{host.address}:{port}/"


def status(host: Host) -> str:
    return host.meshctl("status", "-o", "json").stdout


def test_a_container_registers_itself_and_is_found(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    run("api-1", LABELS)
    found = wait_for("api-1 passes", lambda: instances(host).get("api-1"))
    assert (found["Address"], found["Port"], sorted(found["Tags"])) == (docker.address("api-1"), 8080, ["blue", "v1"])
    assert found["Meta"]["team"] == "shop"
    assert found["Meta"]["meshd-owner"] == "docker"


def test_it_is_called_through_the_mesh(host: Host, run: Callable[..., str]) -> None:
    run("api-1", LABELS)
    url = call_api(host)

    def answered() -> bool:
        answer = http("GET", url)
        return (answer.status, answer.body) == (200, b"ok\n")

    wait_for("200 through two proxies", answered)


def test_containers_are_replaced_under_load(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    """`docker stop` of one after the other; each is given a second to finish, as an app is that drains."""
    old = [run(name, LABELS, linger=1) for name in ("old-1", "old-2")]
    url = call_api(host)
    wait_for("both pass", lambda: {"old-1", "old-2"} <= set(instances(host)))
    wait_for("200", lambda: http("GET", url).status == 200)
    load = Load(url, rate=200, count=1600)
    try:
        for number, name in enumerate(old, 1):
            run(f"new-{number}", LABELS)
            wait_for("the new one passes", lambda number=number: f"new-{number}" in instances(host))  # type: ignore[misc]  # the value of this round
            docker.stop(name)
        report = load.result(40)
    finally:
        load.stop()
    assert (report["failed"], report["ok"]) == (0, 1600), report


def test_a_published_port_is_the_hosts(host: Host, run: Callable[..., str]) -> None:
    port = free_port(host.address)
    run("published", LABELS, publish={8080: (host.address, port)})
    found = wait_for("it passes", lambda: instances(host).get("published"))
    assert (found["Address"], found["Port"]) == (host.address, port)


def test_it_is_withdrawn_while_it_still_answers(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    name = run("slow", LABELS, linger=20)
    wait_for("it passes", lambda: "slow" in instances(host))
    address = docker.address(name)
    docker.client.kill(name, signal="SIGTERM")  # what `docker stop` sends first
    wait_for("withdrawn", lambda: "slow" not in instances(host, passing=False))
    assert http("GET", f"http://{address}:8080/").body == b"ok\n"
    assert docker.client.inspect_container(name)["State"]["Running"]


def test_a_restarted_container_is_back(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    name = run("again", LABELS)
    wait_for("it passes", lambda: "again" in instances(host))
    docker.stop(name)
    wait_for("withdrawn", lambda: "again" not in instances(host))
    docker.client.start(name)
    wait_for("it passes again", lambda: "again" in instances(host))
    docker.client.pause(name)
    wait_for("paused: withdrawn", lambda: "again" not in instances(host))
    docker.client.unpause(name)
    wait_for("it passes once more", lambda: "again" in instances(host))


def test_a_healthcheck_is_the_check_where_labels_give_none(
    host: Host, docker: Dockerd, run: Callable[..., str], tmp_path: Path
) -> None:
    healthy = tmp_path / "healthy"
    labels = {name: text for name, text in LABELS.items() if not name.startswith("meshd.check.")}
    run("checked", labels, healthy=healthy)
    wait_for("registered, not passing", lambda: "checked" in instances(host, passing=False))
    assert "checked" not in instances(host)
    healthy.touch()
    wait_for("healthy: passing", lambda: "checked" in instances(host), 30)
    healthy.unlink()
    wait_for("unhealthy: out of traffic", lambda: "checked" not in instances(host), 30)
    assert "checked" in instances(host, passing=False)


def test_upstreams_of_a_container_on_a_bridge_are_refused_and_it_serves(host: Host, run: Callable[..., str]) -> None:
    """Nothing would tell who calls there: not even a port of the host's own is opened for it."""
    port = free_port(host.address)
    run("bridged", LABELS | {"meshd.upstreams": f"db:{port}"})
    wait_for("it passes", lambda: "bridged" in instances(host))
    wait_for("named", lambda: "container bridged: meshd.upstreams: refused" in status(host))
    with pytest.raises(OSError, match="refused"):
        http("GET", f"http://{host.address}:{port}/")


def test_bad_labels_are_named_and_harm_nobody(host: Host, run: Callable[..., str]) -> None:
    run("good", LABELS)
    run("no-port", {"meshd.service": "api"})
    run("typo", LABELS | {"meshd.prot": "http"})
    run("elsewhere", LABELS | {"meshd.check.http": "http://169.254.169.254/"})
    wait_for("good passes", lambda: "good" in instances(host))
    for text in ("container no-port: meshd.port: missing", "container typo: meshd.prot: no such label",
                 "container elsewhere: meshd.check.http"):  # fmt: skip
        wait_for(text, lambda text=text: text in status(host))  # type: ignore[misc]  # the value of this round
        assert text in host.log.read_text()
    assert set(instances(host)) == {"good"}


def test_only_own_registrations_are_withdrawn(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    host.register({"Name": "db", "ID": "db-1", "Port": 5432})
    run("db-2", {"meshd.service": "db", "meshd.port": "8080", "meshd.id": "db-1"})
    wait_for("named", lambda: "container db-1: meshd.id: an instance of that id" in status(host))
    other = run("db-3", {"meshd.service": "db", "meshd.port": "8080"})
    wait_for("db-3 is there", lambda: "db-3" in instances(host, "db"))
    docker.stop(other)
    wait_for("db-3 has left", lambda: "db-3" not in instances(host, "db"))
    assert instances(host, "db")["db-1"]["Port"] == 5432


def test_a_killed_meshd_finds_what_changed_meanwhile(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    gone, stays = run("gone", LABELS), run("stays", LABELS)
    wait_for("both pass", lambda: {"gone", "stays"} <= set(instances(host)))
    host.kill()
    docker.stop(gone)
    run("new", LABELS)
    host.start()
    wait_for("as it is now", lambda: set(instances(host)) == {"stays", "new"})
    assert docker.client.inspect_container(stays)["State"]["Running"]


def test_a_daemon_that_restarts_takes_nobody_out_that_lives(tmp_path: Path) -> None:
    with Dockerd(live_restore=True) as docker, Cluster(tmp_path, net=random_net()) as mesh:
        host = mesh.first_host("a", Docker={"Enabled": True, "Socket": docker.socket, "Interval": "2s"})
        docker.run("lives", LABELS)
        dies = docker.run("dies", LABELS)
        wait_for("both pass", lambda: set(instances(host)) == {"lives", "dies"})
        pid = docker.client.inspect_container(dies)["State"]["Pid"]
        docker.kill()
        wait_for("said", lambda: "does not answer" in status(host))
        assert set(instances(host, passing=False)) == {"lives", "dies"}
        Path(f"/proc/{pid}/oom_score_adj").read_text()  # it is still there
        kill(pid)
        wait_for("the dead one is withdrawn without the daemon", lambda: "dies" not in instances(host, passing=False))
        assert "lives" in instances(host)
        docker.start()
        wait_for("the daemon is back", lambda: "does not answer" not in status(host))
        docker.run("later", LABELS)
        wait_for("a new container registers", lambda: set(instances(host)) == {"lives", "later"})


def test_a_daemon_that_ends_with_its_containers(tmp_path: Path) -> None:
    with Dockerd() as docker, Cluster(tmp_path, net=random_net()) as mesh:
        host = mesh.first_host("a", Docker={"Enabled": True, "Socket": docker.socket, "Interval": "2s"})
        name = docker.run("api-1", LABELS)
        wait_for("it passes", lambda: "api-1" in instances(host))
        docker.end()  # without live-restore it stops them first
        wait_for("withdrawn", lambda: not instances(host, passing=False))
        docker.start()
        docker.client.start(name)
        wait_for("it is back", lambda: "api-1" in instances(host))
        host.stop()
        host.config["Docker"] = {"Enabled": False}
        host.start()
        wait_for("switched off: withdrawn", lambda: not instances(host, passing=False))
        assert http("GET", f"http://{docker.address(name)}:8080/").status == 200


def test_a_frozen_daemon_is_named_and_takes_nobody_out(host: Host, docker: Dockerd, run: Callable[..., str]) -> None:
    run("api-1", LABELS)
    wait_for("it passes", lambda: "api-1" in instances(host))
    assert docker.process is not None
    docker.process.send_signal(signal.SIGSTOP)
    try:
        wait_for("named", lambda: "does not answer" in status(host), seconds=30)
        assert "api-1" in instances(host)
    finally:
        docker.process.send_signal(signal.SIGCONT)
    wait_for("it answers again", lambda: "does not answer" not in status(host), seconds=30)
    run("api-2", LABELS)
    wait_for("events arrive again", lambda: "api-2" in instances(host))


def kill(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)
    end = time.monotonic() + 5
    while Path(f"/proc/{pid}").exists():
        if time.monotonic() > end:
            raise Failed(f"{pid} does not end")
        time.sleep(0.01)  # sleep: the pace of a wait with a deadline
