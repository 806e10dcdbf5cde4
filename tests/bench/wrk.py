"""Drives a topology with wrk and reads what it printed."""

import re
import subprocess
from dataclasses import dataclass

from tests.tools import find

MILLISECONDS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


@dataclass(frozen=True)
class Load:
    """`errors`: answers outside 2xx and 3xx, and failed connects, reads, writes and timeouts."""

    requests: int
    rps: float
    p50_ms: float
    p99_ms: float
    errors: int


def drive(url: str, seconds: float, conns: int) -> Load:
    """One wrk run. Raises RuntimeError when wrk itself fails."""
    program = find("wrk") or "wrk"
    command = [str(program), "-t1", f"-c{conns}", f"-d{max(1, round(seconds))}s", "--latency", url]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=seconds + 60)
    if done.returncode:
        raise RuntimeError(f"wrk: exit {done.returncode}: {done.stderr or done.stdout}")
    return read(done.stdout)


def read(output: str) -> Load:
    """What `wrk --latency` printed. Raises RuntimeError when it printed something else."""
    total = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    if total is None or rate is None:
        raise RuntimeError(f"not wrk's output: {output[:300]!r}")
    refused = re.search(r"Non-2xx or 3xx responses: (\d+)", output)
    socket_errors = re.search(r"Socket errors: (.*)", output)
    errors = int(refused[1]) if refused else 0
    errors += sum(map(int, re.findall(r"\d+", socket_errors[1]))) if socket_errors else 0
    return Load(int(total[1]), float(rate[1]), _percentile(output, 50), _percentile(output, 99), errors)


def _percentile(output: str, mark: int) -> float:
    found = re.search(rf"^\s+{mark}%\s+([\d.]+)(us|ms|s|m)$", output, re.MULTILINE)
    if found is None:
        raise RuntimeError(f"no {mark} % in wrk's output: {output[:300]!r}")
    return float(found[1]) * MILLISECONDS[found[2]]
