"""The bench's own parts: what it reads, what it computes, and that a broken topology makes the run invalid."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509

from tests.bench import certificates, procfs, summary, wrk
from tests.bench.__main__ import arguments
from tests.bench.measure import Row
from tests.bench.topology import TOPOLOGIES
from tests.tools import tool

ROOT = Path(__file__).parents[2]

OUTPUT = """Running 1s test @ http://127.0.0.1:1/
  1 threads and 64 connections
  Latency Distribution
     50%  708.00us
     75%    1.00ms
     99%    6.57ms
  56587 requests in 1.01s, 69.00MB read
{errors}Requests/sec:  55831.32
Transfer/sec:     68.00MB
"""


def test_wrk_is_read_with_its_units() -> None:
    load = wrk.read(OUTPUT.format(errors=""))
    assert load == wrk.Load(56587, 55831.32, 0.708, 6.57, 0)


def test_every_kind_of_failed_request_counts() -> None:
    errors = "  Socket errors: connect 1, read 2, write 3, timeout 4\n  Non-2xx or 3xx responses: 5\n"
    assert wrk.read(OUTPUT.format(errors=errors)).errors == 15


def test_output_that_is_not_wrks_is_refused() -> None:
    with pytest.raises(RuntimeError, match="not wrk's output"):
        wrk.read("unable to connect")


def row(name: str, cost: float, control: float = 0.0, round_: int = 1, errors: int = 0) -> Row:
    return Row(name, round_, 1000, 1.0, cost, 1.0, 2.0, 3.0, errors, control, 0.1)


def test_ratios_compare_medians_of_the_same_run() -> None:
    rows = [row("meshd-pair", cost) for cost in (30, 34, 90)] + [row("haproxy-pair", cost) for cost in (39, 40, 41)]
    table = summary.table(rows)
    assert "meshd-pair / haproxy-pair: 0.85 (bar 0.85: held)" in table
    assert "meshd-hop" not in table


def test_a_missed_bar_is_said() -> None:
    table = summary.table([row("meshd-hop", 20.0, control=0.1), row("nginx-hop", 10.0)])
    assert "meshd-hop / nginx-hop: 2.00 (bar 1.05: NOT held)" in table
    assert "0.50% of the proxies'" in table


def test_a_row_has_the_agreed_fields() -> None:
    agreed = {"name", "rps", "us_per_req", "p50_ms", "p99_ms", "pss_mb", "errors", "control_us_per_req"}
    assert agreed <= set(row("direct", 0.0).as_json())


def test_cpu_and_memory_of_a_busy_child_are_seen() -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", "import time\nwhile time.process_time() < .2: pass\nprint(flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    with child:
        assert child.stdout is not None
        child.stdout.readline()
        pids = procfs.descendants(child.pid)
        assert child.pid in procfs.descendants(os.getpid())
        assert procfs.cpu_seconds(pids) == pytest.approx(procfs.run_seconds(pids), abs=0.05)
        assert procfs.run_seconds(pids) >= 0.19
        assert procfs.pss_mb(pids) > 1
        assert procfs.switches(pids) > 0
        child.communicate(b"\n")


def test_certificates_name_service_and_host(tmp_path: Path) -> None:
    made = certificates.make(tmp_path)
    leaf = x509.load_pem_x509_certificate((made / "api.crt").read_bytes())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["api.mesh"]
    leaf.verify_directly_issued_by(x509.load_pem_x509_certificate((made / "ca.crt").read_bytes()))


def test_all_agreed_topologies_can_be_asked_for() -> None:
    wanted = ["direct", "meshd-hop", "meshd-pair", "nginx-hop", "haproxy-hop", "nginx-pair", "haproxy-pair"]
    assert sorted(TOPOLOGIES) == sorted(wanted)
    assert arguments(wanted).names == wanted
    with pytest.raises(SystemExit):
        arguments(["no-such-hop"])


def bench(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.bench", *args, "--duration", "1", "--conns", "4", "--rounds", "1", "--json"]
    return subprocess.run(
        command, capture_output=True, text=True, cwd=ROOT, env={**os.environ, **env}, check=False, timeout=50
    )


def test_a_peer_is_measured_and_only_json_is_on_stdout() -> None:
    tool("nginx"), tool("wrk")
    done = bench("nginx-hop")
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    measured = json.loads(line)
    assert measured["errors"] == 0
    assert measured["us_per_req"] > 0
    assert "median of rounds" in done.stderr


def test_a_topology_that_does_not_start_makes_the_run_invalid(tmp_path: Path) -> None:
    tool("wrk"), tool("nginx")
    broken = tmp_path / "haproxy"
    broken.write_text("#!/bin/sh\necho planted failure\nexit 3\n")
    broken.chmod(0o755)
    done = bench("haproxy-hop", PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stdout == ""
    assert "INVALID: haproxy-hop (round 1)" in done.stderr
    assert "planted failure" in done.stderr
