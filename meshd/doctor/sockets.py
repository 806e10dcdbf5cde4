"""Ports that meshd and its proxy need, and applications that others reach without the mesh."""

import contextlib
import ipaddress
import os
import re
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from meshd import ports
from meshd.config import Host
from meshd.control.registrations import Saved
from meshd.doctor.check import Check, fail, ok, warn
from meshd.placed import ConfigError

PID = re.compile(r"\(pid (\d+)\)\Z")


class App(msgspec.Struct, frozen=True):
    """A registered instance's own port."""

    instance: str
    port: int


def needed(host: Host) -> tuple[tuple[str, str, int], ...]:
    """Setting, address and port of what meshd and its proxy listen on."""
    found = [
        ("Ports.Api", host.loopback, host.ports.api),
        ("Ports.Admin", host.loopback, host.ports.admin),
        ("Ports.Inbound", host.bind.inbound, host.ports.inbound),
    ]
    if host.roles:
        found.append(("Ports.Peer", host.bind.peer, host.ports.peer))
    return tuple(found)


def judge_port(setting: str, address: str, port: int, held_by: str, ours: frozenset[int]) -> Check:
    """Pure. `held_by`: `name (pid N)`, `?` for somebody unknown, empty: it is free. `ours`: meshd and its proxies."""
    name = f"port {setting}"
    where = f"{address}:{port}"
    if not held_by:
        return ok(name, f"{where} is free")
    pid = PID.search(held_by)
    if pid is not None and int(pid[1]) in ours:
        return ok(name, f"{where} is held by our {held_by}")
    who = "another process" if held_by == "?" else held_by
    return fail(name, f"{where} is taken by {who}", f"end it, or choose another {setting}")


def examine(host: Host) -> tuple[Check, ...]:
    ours = frozenset(own_pids(host))
    found = [judge_port(setting, address, port, taken(setting, address, port), ours)
             for setting, address, port in needed(host)]  # fmt: skip
    found += judge_apps(apps(host), ports.addresses)
    return tuple(found)


def taken(setting: str, address: str, port: int) -> str:
    try:
        ports.check(setting, address, port)
    except ConfigError:
        return ports.holder(address, port) or "?"
    return ""


def own_pids(host: Host) -> Iterable[int]:
    """The meshd that holds RunDir's lock, and every proxy of this RunDir."""
    with contextlib.suppress(OSError, ValueError):
        yield int((host.run / "lock").read_text().strip() or "0")
    yield from proxies(host)


def proxies(host: Host, proc: Path = Path("/proc")) -> Iterable[int]:
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        try:
            arguments = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if os.path.basename(arguments[0]) == b"meshd-proxy" and os.fsencode(host.run_dir) in arguments:
            yield int(entry.name)


def apps(host: Host) -> tuple[App, ...]:
    """Registered on this host, as far as the disk and the configuration know."""
    found = [App(str(body.get("ID") or body.get("Name") or "?"), int(body.get("Port") or 0)) for body in host.services]
    try:
        saved = msgspec.json.decode((host.data / "registrations.json").read_bytes(), type=Saved)
    except (OSError, msgspec.DecodeError):
        saved = Saved()  # meshd itself sets a bad file aside, and says so
    found += [App(str(local.instance.key), local.instance.port) for local in saved.local if not local.configured]
    return tuple(app for app in found if app.port)


def judge_apps(found: Iterable[App], listening: Callable[[int], Iterable[str]]) -> list[Check]:
    """A line for each application that others reach past the mesh; one that says ok when there is none."""
    checks = []
    for app in found:
        outside = sorted(at for at in listening(app.port) if not ipaddress.ip_address(at).is_loopback)
        if outside:
            seen = f"port {app.port} listens on {', '.join(outside)}: callers need no certificate there"
            checks.append(warn(f"app {app.instance}", seen, "let it listen on loopback only, or firewall the port"))
    return checks or [ok("apps", "none listens elsewhere than on loopback")]
