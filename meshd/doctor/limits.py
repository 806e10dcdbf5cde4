"""Open files: a proxied connection takes two, and a proxy that has none left refuses."""

import resource
from pathlib import Path

from meshd.doctor.check import Check, fail, ok, warn

LEAST = 1024  # a few hundred connections
ENOUGH = 16_384
TODO = "LimitNOFILE=1048576 in the unit of the proxy (deploy/systemd), or `ulimit -n`"


def judge(who: str, soft: int) -> Check:
    """Pure. `soft`: the limit in force, -1 for none."""
    name = f"open files {who}"
    seen = f"{soft if soft >= 0 else 'no limit'}" + ("" if soft < 0 else f": about {soft // 2} connections")
    if 0 <= soft < LEAST:
        return fail(name, seen, TODO)
    return warn(name, seen, TODO) if 0 <= soft < ENOUGH else ok(name, seen)


def of_process(pid: int, proc: Path = Path("/proc")) -> int | None:
    """The soft limit of a running process; None: it cannot be seen."""
    try:
        lines = (proc / str(pid) / "limits").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        if line.startswith("Max open files"):
            soft = line[len("Max open files") :].split()[0]
            return int(soft) if soft.isdigit() else -1
    return None


def of_a_start() -> int:
    """What a proxy that is started from here gets: it raises its limit to the hard one."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return -1 if hard == resource.RLIM_INFINITY else hard
