"""`registry list|diff|migrate` against a fake API: what is said, what is refused, and in which order it is done."""

import json

import pytest
from click import ClickException

from meshd.admin.shapes import (
    Applied,
    ApplyResult,
    DiffRow,
    PlacedInstance,
    RegistryDiff,
    RegistryRow,
    ServicePlacement,
)
from meshd.cli.registries import not_yet_in, plan, refuse, sources, still_in
from tests.fakes.mesh_api import MeshApi
from tests.unit.meshd.cli.conftest import Run

HOSTS = {"a": {"home": "", "etcd": ""}, "b": {"home": "", "etcd": ""}}
PLACED = "/v1/mesh/registries/placement/web"
WRITTEN = ApplyResult(
    applied=(Applied(kind="service-defaults", name="web", version=4, digest="aa", changed=True),), nodes=("a", "b", "z")
)


def found(*standing: str, **more: object) -> ServicePlacement:
    """`web` with one instance."""
    basis: dict[str, object] = {
        "service": "web",
        "home": "home",
        "named": (),
        "document": "",
        "registries": ("home", "etcd"),
        "instances": (PlacedInstance(name="web/b/web-1", node="b", standing=standing),) if standing else (),
        "hosts": HOSTS,
    }
    return ServicePlacement(**(basis | more))  # type: ignore[arg-type] - fields come from the test


def row(name: str, **more: object) -> RegistryRow:
    basis = {"kind": "etcd", "home": False, "reachable": True, "last_event_age": 1.0, "instances": 3, "services": 2}
    return RegistryRow(name=name, **(basis | more))  # type: ignore[arg-type] - fields come from the test


def test_a_registry_that_is_away_shows_what_is_last_known(meshctl: Run, api: MeshApi) -> None:
    away = row("etcd", reachable=False, reason="refused", last_event_age=-1.0)
    api.answer("GET", "/v1/mesh/registries", [row("home", kind="mesh", home=True), away])
    done = meshctl("registry", "list")
    assert [line.split() for line in done.stdout.splitlines()[1:]] == [
        ["home", "mesh", "yes", "yes", "1.0s", "ago", "2", "3"],
        ["etcd", "etcd", "no", "NO", "never", "2", "3", "last", "known"],
    ]
    assert "etcd: refused" in done.stderr


def test_a_difference_is_exit_1_and_named(meshctl: Run, api: MeshApi) -> None:
    rows = (
        DiffRow(service="web", instance="web/a/1", only="a"),
        DiffRow(service="web", instance="web/b/1", fields=("Health", "Port")),
    )
    api.answer("GET", "/v1/mesh/registries/diff", RegistryDiff(a="home", b="etcd", same=4, rows=rows))
    done = meshctl("registry", "diff", "home", "etcd")
    assert done.returncode == 1
    assert [line.split(maxsplit=1)[1] for line in done.stdout.splitlines()[1:]] == [
        "only in home",
        "differs: Health, Port",
    ]
    assert json.loads(meshctl("registry", "diff", "home", "etcd", "-o", "json").stdout)["same"] == 4
    assert api.seen[0][1].endswith("?a=home&b=etcd")


def test_no_difference_is_exit_0(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", "/v1/mesh/registries/diff", RegistryDiff(a="home", b="etcd", same=4))
    done = meshctl("registry", "diff", "home", "etcd")
    assert (done.returncode, done.stdout) == (0, "home and etcd hold the same\n")


def test_without_yes_it_is_only_said_what_would_be_done(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", PLACED, found("home"))
    done = meshctl("registry", "migrate", "--service", "web", "--to", "etcd")
    assert done.returncode == 2
    assert "1. write Registries: [home, etcd] into service-defaults/web" in done.stdout
    assert all(method == "GET" for method, _, _ in api.seen)


def test_a_move_that_was_done_before_is_done_at_once(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", PLACED, found("etcd", named=("etcd",), silent=("z",)))
    done = meshctl("registry", "migrate", "--service", "web", "--to", "etcd", "--yes")
    assert (done.returncode, done.stdout) == (0, "web is in etcd\n")
    assert "host z is silent" in done.stderr
    assert all(method == "GET" for method, _, _ in api.seen)


def test_it_is_written_into_both_first_and_waited_for(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", PLACED, found("home"))  # and it never moves
    api.answer("POST", PLACED, WRITTEN)
    api.reports = {node: {"documents": {"service-defaults/web": {"digest": "aa"}}} for node in "ab"}
    done = meshctl("registry", "migrate", "--service", "web", "--to", "etcd", "--yes", "--timeout=1s")
    assert done.returncode == 1
    assert "web/b/web-1 is not in etcd" in done.stderr
    assert "run it again" in done.stderr
    posted = [json.loads(body) for method, _, body in api.seen if method == "POST"]
    assert posted == [{"registries": ["home", "etcd"]}], "it does not leave what it has not reached"


def test_hosts_that_do_not_follow_are_waited_for(meshctl: Run, api: MeshApi) -> None:
    api.answer("GET", PLACED, found("home"))
    api.answer("POST", PLACED, WRITTEN)
    api.reports = {"a": {"documents": {"service-defaults/web": {"digest": "aa"}}}}
    done = meshctl("registry", "migrate", "--service", "web", "--to", "etcd", "--yes", "--timeout=1s")
    assert done.returncode == 1
    assert "b: service-defaults/web silent" in done.stderr
    assert "z:" not in done.stderr, "a host without a lease is not waited for"


@pytest.mark.parametrize(
    ("placed", "goal", "reason"),
    [
        (found("home"), "elsewhere", "this host has no registry elsewhere"),
        (found("home", hosts={"a": HOSTS["a"], "c": {"home": ""}}), "etcd", "c lacks etcd"),
        (
            found(instances=(PlacedInstance(name="web/x/1", node="x", standing=("home",), foreign=("home",)),)),
            "etcd",
            r"other tools, which alone can move them: web/x/1 \(in home\)",
        ),
    ],
)
def test_a_move_that_would_leave_somebody_out_is_refused(placed: ServicePlacement, goal: str, reason: str) -> None:
    with pytest.raises(ClickException, match=reason):
        refuse(placed, goal)


def test_what_other_tools_keep_in_the_goal_is_no_obstacle() -> None:
    theirs = PlacedInstance(name="web/x/1", node="x", standing=("etcd",), foreign=("etcd",))
    placed = found(instances=(theirs,), named=("etcd",))
    refuse(placed, "etcd")
    assert not_yet_in(placed, "etcd") == still_in(placed, "etcd") == ()


def test_it_moves_out_of_what_is_named_and_of_what_holds_it() -> None:
    assert sources(found("home"), "etcd") == ("home",)
    assert sources(found("home", named=("etcd",)), "etcd") == ("home",), "interrupted in its second step"
    assert sources(found("etcd", named=("home", "etcd")), "etcd") == ("home",)
    assert sources(found("etcd", named=("etcd",)), "etcd") == ()
    assert plan(found("etcd", named=("etcd",)), "etcd") == ["web: in etcd alone already"]


def test_what_is_missing_is_named() -> None:
    away = found("home", hosts={"a": {"home": "", "etcd": "refused"}})
    assert not_yet_in(away, "etcd") == ("host a has no contact to etcd: refused", "web/b/web-1 is not in etcd")
    assert still_in(found("home", "etcd"), "etcd") == ("web/b/web-1 is still in home",)
