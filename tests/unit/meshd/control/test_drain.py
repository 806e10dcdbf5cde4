"""Leaving: quiet first, and never longer than the bound."""

import json
from pathlib import Path

import msgspec

from meshd.config import Host, Seconds
from meshd.control.drain import arrivals
from policies.compiled import Stats

GOLDEN = Path(__file__).parents[3] / "golden" / "frames_from_proxy.json"


def golden() -> Stats:
    frame = next(frame for frame in json.loads(GOLDEN.read_text()) if frame["type"] == "stats")
    return msgspec.convert(frame, Stats)


def test_only_what_comes_in_for_local_instances_keeps_a_host_waiting() -> None:
    stats = golden()
    assert arrivals(stats) == 2  # two TCP connections; the requests are outbound
    inbound = tuple(msgspec.structs.replace(one, reporter="destination") for one in stats.requests)
    assert arrivals(msgspec.structs.replace(stats, requests=inbound)) == 7


def test_the_bound_is_the_hosts_setting() -> None:
    assert Host().drain_timeout == 30.0
    assert Host(drain_timeout=Seconds(1)).drain_timeout == 1.0
