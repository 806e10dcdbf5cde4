"""What counts of a container, out of Docker's description of it. Pure.

https://docs.docker.com/reference/api/engine/version/v1.41/#tag/Container/operation/ContainerInspect
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

import msgspec

from registry.model import Health

PREFIX = "meshd."
SECOND = 1_000_000_000  # nanoseconds

Network = Literal["host", "own", "shared", "none"]
HEALTH: Mapping[str, Health] = {"starting": "critical", "healthy": "passing", "unhealthy": "critical"}


class Binding(msgspec.Struct, frozen=True):
    """Where the host publishes a container's port."""

    address: str
    port: int


class Container(msgspec.Struct, frozen=True, kw_only=True):
    """One container. `started` (Unix time in nanoseconds) tells its runs apart; `ports`: published TCP ports.

    `network`: host = the host's own; own = it has `address` on a bridge; shared = another container's; none.
    `health`: what its HEALTHCHECK says; None: it has none.
    """

    id: str
    name: str
    running: bool = True
    started: int = 0
    pid: int = 0
    labels: Mapping[str, str] = {}
    network: Network = "own"
    address: str = ""
    ports: Mapping[int, tuple[Binding, ...]] = {}
    stop_signal: str = ""
    health: Health | None = None

    @property
    def short(self) -> str:
        """The id as people see it."""
        return self.id[:12]


def ours(labels: Mapping[str, str] | None) -> bool:
    """Does a container ask for us at all?"""
    return any(name.startswith(PREFIX) for name in labels or ())


def inspected(attrs: Mapping[str, Any]) -> Container:
    """From the answer of `GET /containers/{id}/json`. Raises KeyError, TypeError, ValueError for another shape."""
    state, config = attrs["State"], attrs["Config"]
    settings = attrs.get("NetworkSettings") or {}
    network, address = _network(attrs["HostConfig"].get("NetworkMode", ""), settings.get("Networks") or {})
    halted = state.get("Paused") or state.get("Restarting") or state.get("Dead")
    return Container(
        id=attrs["Id"],
        name=str(attrs["Name"]).removeprefix("/"),
        running=bool(state["Running"] and not halted),
        started=nanoseconds(state.get("StartedAt", "")),
        pid=int(state.get("Pid") or 0),
        labels=dict(config.get("Labels") or {}),
        network=network,
        address=address,
        ports=_ports(settings.get("Ports") or {}),
        stop_signal=config.get("StopSignal") or "",
        health=HEALTH.get((state.get("Health") or {}).get("Status", "none")),
    )


def _network(mode: str, networks: Mapping[str, Any]) -> tuple[Network, str]:
    if mode == "host":
        return "host", ""
    if mode.startswith("container:"):
        return "shared", ""
    for name in sorted(networks):
        address = networks[name].get("IPAddress") or networks[name].get("GlobalIPv6Address")
        if address:
            return "own", str(address)
    return "none", ""


def _ports(published: Mapping[str, Any]) -> dict[int, tuple[Binding, ...]]:
    found: dict[int, tuple[Binding, ...]] = {}
    for name, bindings in published.items():
        port, _, protocol = name.partition("/")
        if protocol == "tcp" and bindings:
            found[int(port)] = tuple(Binding(one.get("HostIp") or "", int(one["HostPort"])) for one in bindings)
    return found


def nanoseconds(stamp: str) -> int:
    """Unix time of `2026-11-23T16:58:50.345685413Z`; 0 for Docker's "never" (year 1). Raises ValueError."""
    if not stamp or stamp.startswith("0001-"):
        return 0
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return int(datetime.fromisoformat(whole + "+00:00").timestamp()) * SECOND + int(fraction[:9].ljust(9, "0"))
