"""CPU time and memory of process groups, from /proc."""

import os
from collections.abc import Iterable
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")
PROC = Path("/proc")


def descendants(pid: int) -> list[int]:
    """The process and everything below it that still runs."""
    found = [pid]
    try:
        threads = list((PROC / str(pid) / "task").iterdir())
        children = [child for thread in threads for child in (thread / "children").read_text().split()]
    except OSError:
        return found
    for child in children:
        found += descendants(int(child))
    return found


def cpu_seconds(pids: Iterable[int]) -> float:
    """User and system time used so far; a process that is gone raises FileNotFoundError: its time would be missing."""
    total = 0
    for pid in pids:
        fields = (PROC / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / TICKS


def run_seconds(pids: Iterable[int]) -> float:
    """As `cpu_seconds`, to the nanosecond where the kernel counts that: for processes that hardly run at all."""
    pids = list(pids)
    threads = [thread for pid in pids for thread in (PROC / str(pid) / "task").iterdir()]
    if not all((thread / "schedstat").exists() for thread in threads):
        return cpu_seconds(pids)
    return sum(int((thread / "schedstat").read_text().split()[0]) for thread in threads) / 1e9


def switches(pids: Iterable[int]) -> int:
    """Context switches of all threads so far."""
    threads = [thread for pid in pids for thread in (PROC / str(pid) / "task").iterdir()]
    lines = [line for thread in threads for line in (thread / "status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def pss_mb(pids: Iterable[int]) -> float:
    """Memory in MB, shared pages divided among those who share them."""
    total = 0
    for pid in pids:
        lines = (PROC / str(pid) / "smaps_rollup").read_text().splitlines()
        total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
    return total / 1024
