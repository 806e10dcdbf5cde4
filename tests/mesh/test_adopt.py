"""A wiped Consul or etcd: nothing is deleted, everything is held, until an operator has it adopted."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.mesh.cluster import Cluster, http, wait_for
from tests.mesh.registries import running
from tests.mesh.three_hosts import ALLOW, ThreeHosts, router

pytestmark = [pytest.mark.mesh, pytest.mark.outages, pytest.mark.timeout(240)]


@pytest.fixture(params=["consul", "etcd"])
def story(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ThreeHosts]:
    with Cluster(tmp_path) as mesh, running(request.param, mesh) as registry:
        yield ThreeHosts(mesh, registry)


def test_a_wiped_store_is_held_until_the_host_with_the_role_ca_adopts_it(story: ThreeHosts) -> None:
    story.registry.wipe()
    story.registry.admit_again()
    story.all_say("in doubt", "registry adopt")
    assert story.routed_by() == "first"
    for host in story.hosts:
        assert "meshd_registry_store_foreign 1.0" in host.metrics()
        rows = json.loads(host.meshctl("get", "-o", "json").stdout)
        assert {row["state"] for row in rows} == {"held"}, rows
    written(story, ALLOW)  # what shall stay is written back first; the router is left out
    mine = story.without_operator()
    refused = story.b.meshctl("registry", "adopt", "--yes", check=False)
    assert refused.returncode == 1, "a host's own rights do not say which store is ours"
    done = story.a.meshctl("registry", "adopt", "--yes")
    os.environ.update(mine)
    assert "let go: document service-router/api" in done.stdout
    story.all_well()
    wait_for("the router is gone everywhere", lambda: story.routed_by() == "", 20)
    story.a.apply(router("second"), wait="20s")
    story.in_force("second")
    both = {app.instance: len(app.requests()) for app in story.apis.values()}
    wait_for("both instances are used", lambda: used(story, both), 20)


def test_an_operator_with_a_token_of_the_store_adopts_it_from_any_host(story: ThreeHosts) -> None:
    story.registry.wipe()
    story.registry.admit_again()
    story.all_say("in doubt", "registry adopt")
    story.c.meshctl("registry", "adopt", "--yes")
    story.all_well()
    wait_for("nothing was written back: the call is denied", lambda: http("GET", story.url).status == 403, 20)


def written(story: ThreeHosts, document: dict[str, object]) -> None:
    """An operator's first request with a log-in of before the wipe may cost it, and be made again."""
    wait_for("written", lambda: story.a.apply(document) is None, 60)


def used(story: ThreeHosts, before: dict[str, int]) -> bool:
    http("GET", story.url)
    return all(len(app.requests()) > before[name] for name, app in story.apis.items())
