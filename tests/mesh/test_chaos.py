"""The registry is killed, frozen, wiped and restored under load: no request fails, and in the end all is as it should.

200 requests a second over 8 kept connections from host a to b and c, for as long as the story takes, a minute at least.
"""

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.demo.traffic import Load
from tests.mesh.cluster import Cluster, Host, wait_for
from tests.mesh.registries import running
from tests.mesh.three_hosts import ThreeHosts, router

pytestmark = [pytest.mark.mesh, pytest.mark.mesh_long, pytest.mark.timeout(400)]

FROZEN = 15.0  # seconds: longer than a lease (10 s) and than a frozen registry is believed (8 s)
ENOUGH = 300  # requests seen by the apps after each step
LOAD = 60.0  # seconds of one run of the load generator


class Loads:
    """Load without an end: another run of the generator whenever one has finished."""

    def __init__(self, story: ThreeHosts) -> None:
        self._story = story
        self._running: Load = story.load(LOAD)
        self._reports: list[dict[str, object]] = []

    def __enter__(self) -> "Loads":
        return self

    def __exit__(self, *_error: object) -> None:
        self._running.stop()

    def go_on(self) -> None:
        """Between two steps: see that there is load under the next one."""
        before = self._story.total()
        wait_for("load is under way", lambda: self._gone_on(before), 60, every=0.1)

    def _gone_on(self, before: int) -> bool:
        if self._running.ended():
            self._reports.append(self._running.result())
            self._running = self._story.load(LOAD)
        return self._story.total() - before >= ENOUGH

    def none_failed(self) -> None:
        self._reports.append(self._running.result())
        assert [report["failed"] for report in self._reports] == [0] * len(self._reports), self._reports


@pytest.fixture(params=["embedded", "consul", "etcd"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreeHosts]:
    with Cluster(tmp_path) as mesh, running(request.param, mesh) as registry:
        yield ThreeHosts(mesh, registry)


def test_the_registry_is_killed_frozen_wiped_and_restored_under_load(story: ThreeHosts, tmp_path: Path) -> None:
    backup = tmp_path / "backup"
    story.registry.backup(backup)
    with Loads(story) as loads:
        break_everything(story, loads, backup)
        loads.none_failed()
    story.all_well()


def break_everything(story: ThreeHosts, loads: Loads, backup: Path) -> None:
    registry, others = story.registry, hosts(story)
    loads.go_on()

    registry.kill()
    lost(story, others)
    refused = others[0].meshctl("apply", "-f", "-", stdin="Kind: mesh\n", check=False)
    assert refused.returncode == 75, refused.stderr
    loads.go_on()
    registry.begin()
    story.all_well()
    story.a.apply(router("second"), wait="30s")
    story.in_force("second")
    loads.go_on()

    registry.freeze()
    begun = time.monotonic()
    lost(story, others)
    time.sleep(max(0.0, begun + FROZEN - time.monotonic()))  # sleep: the freeze itself
    loads.go_on()
    registry.thaw()
    story.all_well()
    loads.go_on()

    registry.wipe()
    registry.admit_again()
    story.all_say("in doubt", "registry adopt")
    assert story.routed_by() == "second", "what the store has lost stays in force"
    loads.go_on()

    registry.restore(backup)
    wait_for("the store is believed again", lambda: not story.status(story.b)["registry"]["foreign"], 40)
    loads.go_on()
    story.a.meshctl("registry", "adopt", "--yes")
    story.all_well()
    story.a.apply(router("third"), wait="30s")
    story.in_force("third")
    late = story.serve(story.c, "api-late")
    wait_for("an instance registered after it is used", lambda: story.routed_by() == "third" and late.requests(), 30)


def hosts(story: ThreeHosts) -> tuple[Host, ...]:
    """Those that run on while the registry does not: the embedded one is in host a's meshd."""
    return story.hosts[1:] if "registry" in story.registry.roles else story.hosts


def lost(story: ThreeHosts, others: tuple[Host, ...]) -> None:
    for host in others:
        wait_for(f"{host.name} notices", lambda at=host: not story.reachable(at), 30, every=0.2)  # type: ignore[misc]  # bound here
        assert "NOT REACHABLE" in host.meshctl("status", check=False).stdout
