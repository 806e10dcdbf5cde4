"""DataDir: room, who may read it, and how old the saved snapshot is."""

import os
import shutil
import stat
from collections.abc import Iterable
from pathlib import Path

from meshd.control.cold_start import max_age
from meshd.doctor.check import Check, fail, ok, warn
from registry import snapshot
from registry.ca.files import Layout
from registry.errors import NotFound, RegistryError

LEAST = 64 << 20  # bytes: a snapshot and a write-ahead log still fit
ENOUGH = 512 << 20
HOUR = 3600.0
NAMED = 5  # files that one line names


def examine(data: Path, now: float) -> tuple[Check, ...]:
    if not data.exists():
        return (warn("disk", f"{data} does not exist yet", "meshd makes it at its first start"),)
    free = shutil.disk_usage(data).free
    return (room(free, data), modes(open_to_others(data), data), saved(data, now))


def room(free: int, data: Path) -> Check:
    """Pure."""
    seen = f"{free >> 20} MiB free at {data}"
    todo = "make room: without it meshd serves, but can save neither registrations nor snapshots nor certificates"
    if free < LEAST:
        return fail("disk", seen, todo)
    return warn("disk", seen, todo) if free < ENOUGH else ok("disk", seen)


def open_to_others(data: Path) -> tuple[str, ...]:
    """Files that group or others may read or write, and directories that they may write; keys' ones also read."""
    found = []
    for folder, names, files in os.walk(data):
        for name in files:
            if _mode(Path(folder, name)) & 0o077:
                found.append(str(Path(folder, name).relative_to(data)))
        for name in names:
            path = Path(folder, name)
            private = path.relative_to(data).parts[0] in ("identity", "ca")
            if _mode(path) & (0o077 if private else 0o022):
                found.append(f"{path.relative_to(data)}/")
    if _mode(data) & 0o022:
        found.append("./")
    return tuple(sorted(found))


def _mode(path: Path) -> int:
    try:
        found = path.lstat()
    except OSError:
        return 0  # gone meanwhile
    return 0 if stat.S_ISLNK(found.st_mode) else stat.S_IMODE(found.st_mode)


def modes(others: Iterable[str], data: Path) -> Check:
    """Pure."""
    found = tuple(others)
    if not found:
        return ok("permissions", f"{data}: only its owner")
    more = f" and {len(found) - NAMED} more" if len(found) > NAMED else ""
    seen = f"open to others: {', '.join(found[:NAMED])}{more}"
    return fail("permissions", seen, f"chmod -R go-rwx {data}; if keys were readable, join this host anew")


def saved(data: Path, now: float) -> Check:
    name = "snapshot"
    todo = "meshd saves one while the registry answers: see the line `registry` and meshd's log"
    try:
        found = snapshot.read(data / "snapshot", Layout(data))
    except NotFound:
        return warn(name, "none: a start without the registry would serve nothing", todo)
    except RegistryError as error:
        return fail(name, str(error), todo)
    age, most = max(0.0, now - found.heard), max_age(found)
    seen = f"{age:.0f} s old, index {found.index}, {len(found.instances)} instances, {len(found.documents)} documents"
    if age > most:
        return fail(name, f"{seen}; older than MaxSnapshotAge ({most:.0f} s)", todo)
    return warn(name, seen, todo) if age > HOUR else ok(name, seen)
