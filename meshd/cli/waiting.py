"""`apply --wait`: follow `status/proxies/` until every joined host reports the documents' digests in force."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import msgspec

from meshd.admin.shapes import ApplyResult
from meshd.cli.output import note
from meshd.cli.target import Refused, Target
from registry import interest
from registry.interest import Interest

STATUS = "mesh/v1/status/proxies/"
TELL_AFTER = 2.0  # seconds until a waiting command says what it waits for


def wait_in_force(api: Target, result: ApplyResult, seconds: float) -> tuple[str, ...]:
    """Lines that name hosts and why they are late; empty: in force everywhere. Long-polls, so it ends at once."""
    end = time.monotonic() + seconds
    told, index = time.monotonic() + TELL_AFTER, 0
    while True:
        reports, index = read_reports(api, index, min(max(end - time.monotonic(), 0), 1.0))
        late = missing(result, reports)
        now = time.monotonic()
        if not late or now >= end or any("rejected" in line for line in late):
            return late
        if now >= told:
            note(f"waiting for {len(late)} of {len(result.nodes)} hosts: " + "; ".join(late))
            told = now + TELL_AFTER


def read_reports(api: Target, index: int, wait: float) -> tuple[dict[str, Any], int]:
    """Each host's report by name, and the index to poll from."""
    query = {"recurse": 1} | ({"index": index, "wait": f"{int(wait * 1000)}ms"} if index else {})
    try:
        data, headers = api.call("GET", f"/v1/kv/{STATUS}", query=query, wait=wait)
    except Refused as error:
        if error.status != 404:  # nobody has reported yet
            raise
        time.sleep(0.05)
        return {}, 0
    reports = {row["Key"].removeprefix(STATUS): json.loads(base64.b64decode(row["Value"])) for row in json.loads(data)}
    return reports, int(headers.get("x-consul-index", "0"))


def missing(result: ApplyResult, reports: Mapping[str, Any]) -> tuple[str, ...]:
    """Pure: which hosts do not enforce which document, and why."""
    late = []
    for node in result.nodes:
        report = reports.get(node)
        for document in result.applied:
            if report is not None and not concerned(report, document.kind, document.name):
                continue  # about services that the host neither calls nor hosts: it does not follow it
            name = f"{document.kind}/{document.name}"
            reason = lateness(report, name, document.digest)
            if reason:
                late.append(f"{node}: {name} {reason}")
    return tuple(late)


def concerned(report: Mapping[str, Any], kind: str, name: str) -> bool:
    follows = report.get("interest")
    return follows is None or interest.concerns(msgspec.convert(follows, Interest), kind, name)


def lateness(report: Mapping[str, Any] | None, name: str, digest: str) -> str:
    if report is None:
        return "silent (no report; is its lease gone?)"
    if report.get("documents", {}).get(name, {}).get("digest") == digest:
        return ""
    refused = report.get("rejected", {}).get(name)
    if refused and refused.get("digest") == digest:
        reasons = [str(p.get("reason", p)) if isinstance(p, dict) else str(p) for p in refused.get("problems", ())]
        return "rejected: " + ("; ".join(reasons) or "no reason given")
    return "not in force yet"
