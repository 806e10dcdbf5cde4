"""Docker's description of a container, as its engine 1.41 writes it."""

from typing import Any

import pytest

from meshd.control.container import SECOND, Binding, inspected, nanoseconds, ours

ATTRS: dict[str, Any] = {
    "Id": "fccbf9a023935155f8c6a01a19740de15d7109f9904bd565c91330c6641f30f1",
    "Name": "/web-1",
    "State": {"Status": "running", "Running": True, "Paused": False, "Restarting": False, "Dead": False, "Pid": 42,
              "StartedAt": "2026-11-23T16:58:50.345685413Z"},
    "Config": {"Labels": {"meshd.service": "web"}, "StopSignal": "SIGQUIT"},
    "HostConfig": {"NetworkMode": "own"},
    "NetworkSettings": {
        "Ports": {"80/tcp": [{"HostIp": "0.0.0.0", "HostPort": "8099"}, {"HostIp": "::", "HostPort": "8099"}],
                  "53/udp": [{"HostIp": "0.0.0.0", "HostPort": "53"}], "81/tcp": None},
        "Networks": {"own": {"IPAddress": "172.18.0.2", "GlobalIPv6Address": ""}},
    },
}  # fmt: skip


def changed(section: str, **values: object) -> dict[str, Any]:
    return ATTRS | {section: ATTRS[section] | values}


def test_what_counts_of_a_container() -> None:
    found = inspected(ATTRS)
    assert (found.name, found.short, found.pid, found.stop_signal) == ("web-1", "fccbf9a02393", 42, "SIGQUIT")
    assert found.running
    assert found.started % SECOND == 345685413
    assert (found.network, found.address) == ("own", "172.18.0.2")
    assert dict(found.ports) == {80: (Binding("0.0.0.0", 8099), Binding("::", 8099))}


@pytest.mark.parametrize(
    "state",
    [{"Running": False}, {"Paused": True}, {"Restarting": True}, {"Dead": True}],
    ids=lambda one: next(iter(one)),
)
def test_what_does_not_serve_does_not_run(state: dict[str, bool]) -> None:
    assert not inspected(changed("State", **state)).running


@pytest.mark.parametrize(
    ("mode", "networks", "expected"),
    [
        ("host", {"host": {"IPAddress": ""}}, ("host", "")),
        ("container:abc", {}, ("shared", "")),
        ("none", {"none": {"IPAddress": ""}}, ("none", "")),
        ("b", {"b": {"IPAddress": "10.0.0.2"}, "a": {"IPAddress": "10.9.0.2"}}, ("own", "10.9.0.2")),
        ("six", {"six": {"IPAddress": "", "GlobalIPv6Address": "fd00::2"}}, ("own", "fd00::2")),
    ],
)
def test_networks(mode: str, networks: dict[str, Any], expected: tuple[str, str]) -> None:
    attrs = changed("HostConfig", NetworkMode=mode)
    found = inspected(attrs | {"NetworkSettings": {"Networks": networks}})
    assert (found.network, found.address) == expected


def test_a_container_without_anything_is_read() -> None:
    bare = {"Id": "a", "Name": "/b", "State": {"Running": True}, "Config": {"Labels": None}, "HostConfig": {}}
    found = inspected(bare)
    assert (found.network, found.labels, found.started) == ("none", {}, 0)


@pytest.mark.parametrize(
    ("said", "health"),
    [({}, None), ({"Health": None}, None), ({"Health": {"Status": "none"}}, None),
     ({"Health": {"Status": "starting"}}, "critical"), ({"Health": {"Status": "healthy"}}, "passing"),
     ({"Health": {"Status": "unhealthy"}}, "critical")],
)  # fmt: skip
def test_what_its_healthcheck_says(said: dict[str, Any], health: str | None) -> None:
    assert inspected(changed("State", **said)).health == health


def test_times() -> None:
    assert nanoseconds("1970-01-01T00:00:01.5Z") == 1_500_000_000
    assert nanoseconds("1970-01-01T00:00:02Z") == 2_000_000_000
    assert nanoseconds("0001-01-01T00:00:00Z") == 0


def test_ours_is_who_names_us() -> None:
    assert ours({"a": "b", "meshd.port": "1"})
    assert not ours({"meshdx": "1"})
    assert not ours(None)
