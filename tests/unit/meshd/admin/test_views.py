"""Rows from the agent's parts."""

import json
from pathlib import Path

import msgspec

from meshd.admin import views, whole
from meshd.admin.whole import Whole
from meshd.control.cold_start import State
from policies.compiled import EndpointStat, Stats
from registry import keys
from registry.model import CheckResult, Endpoint, Instance
from registry.store import Batch
from tests.unit.meshd.conftest import Single, until
from tests.unit.registry import made

GOLDEN = Path(__file__).parents[3] / "golden" / "frames_from_proxy.json"


def stats(name: str) -> Stats:
    frame = next(frame for frame in json.loads(GOLDEN.read_text()) if frame["type"] == "stats")
    stat = EndpointStat(name=name, ejected=True, inflight=0, ewma_ms=2.5, successes=1, failures=5, last_success=0.0)
    return msgspec.structs.replace(msgspec.convert(frame, Stats), endpoints=(stat,))


def test_an_endpoint_shows_its_failing_checks_and_ejection() -> None:
    failing = CheckResult(check_id="c", status="critical", output="HTTP 500")
    passing = CheckResult(check_id="d", status="passing", output="fine")
    instance = Instance(service="api", node="b", id="1", address="10.0.0.2", port=80, results=(failing, passing))
    stat = stats("api/b/1").endpoints[0]
    row = views.endpoint_row(Endpoint(instance=instance, state="critical"), ("v1",), stat, 0.0)
    assert (row.output, row.ejected, row.inbound, row.ewma_ms) == ("HTTP 500", True, "", 2.5)


def test_a_damped_endpoint_says_why_and_until_when_and_a_suspect_whether_it_proved_itself() -> None:
    instance = Instance(service="api", node="b", id="1", address="10.0.0.2", port=80)
    damped = Endpoint(instance=instance, state="damped", flaps=4, damped_until=100.0)
    assert views.endpoint_row(damped, (), None, 40.0).output == (
        "came back 4 times (FlapHalfLife): held back for another 60 s"
    )
    stat = msgspec.structs.replace(stats("api/b/1").endpoints[0], proof="good", ejected=False)
    assert views.endpoint_row(Endpoint(instance=instance, state="suspect"), (), stat, 0.0).proof == "good"
    assert views.endpoint_row(Endpoint(instance=instance, state="passing"), (), stat, 0.0).proof == ""


async def test_suspects_and_flapping_instances_are_warnings_and_in_the_state_of_the_registry(single: Single) -> None:
    selector = await single.follows("api")
    fold, now = single.agent.fold, single.agent.around.clock()
    meshed = made.instance("api", "b", "api-1"), made.instance("api", "c", "api-2")
    for one in meshed:
        fold.apply(selector, Batch(1, (made.stored(one),)), now)
    assert views.registry(single.agent).suspect == {"api": 2}  # nobody holds a lease for b and c
    leases = tuple(made.entry(keys.lease(node), b"") for node in "bc")
    for _ in range(5):
        fold.apply(keys.LEASES, Batch(2, leases), now)
        fold.apply(keys.LEASES, Batch(2, (), (keys.lease("b"),)), now)
    fold.apply(keys.LEASES, Batch(2, leases), now)
    found = views.registry(single.agent)
    assert (found.suspect, found.damped) == ({}, {"api": 1})
    assert any("flapping: 1 instances of api" in line for line in views.warnings(single.agent))
    assert views.facts(single.agent, None).damped == {"api": 1}


async def test_ejected_endpoints_are_counted_as_such(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("known", lambda: single.agent.fold.services)
    seen = stats("web/a/web-1")
    assert views.services(Whole(single.agent), seen)[0].ejected == 1
    assert views.facts(single.agent, seen).endpoints == {("web", "ejected"): 1}
    assert views.facts(single.agent, None).endpoints == {("web", "passing"): 1}


async def test_keys_that_cannot_be_read_are_problems(single: Single) -> None:
    await single.store.put(keys.instance("web", "b", "1"), b"garbage")
    seen = await whole.read(single.agent, keys.SERVICES)
    assert views.problems(seen)[0].document == "services/web/b/1"


async def test_last_events_are_unix_times(single: Single) -> None:
    now = single.agent.around.now()
    stamps = views.facts(single.agent, None).last_event
    assert stamps
    assert all(now - 60 < at <= now + 1 for at in stamps.values())


async def test_staleness_is_measured_for_each_service(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("known", lambda: single.agent.fold.services)
    assert 0 <= views.staleness(single.agent)["web"] < 60
    single.agent.fold.last_event[keys.LEASES] -= 100  # the older of the two watches counts
    assert views.staleness(single.agent)["web"] >= 100


async def test_a_snapshot_in_force_is_shown_with_its_age_and_warned_of(fresh: Single) -> None:
    agent = fresh.agent
    agent.fold.restore({}, (), 0.0)
    agent.cold_start.state = State("serving", agent.around.now() - 90)
    assert views.snapshot(agent).age >= 90
    assert any("serving from the saved snapshot, 9" in line for line in views.warnings(agent))
    agent.fold.restored.clear()
    assert views.snapshot(agent).state == "saved"
    agent.cold_start.state = State("refused", reason="edited")
    assert "the saved snapshot is not used: edited" in views.warnings(agent)
    assert views.facts(agent, None).snapshot_refused


def test_reports_of_other_hosts_are_read_as_far_as_possible() -> None:
    found = views.read_reports({keys.status("b"): b'{"node":"b","version":"1"}', keys.status("c"): b"garbage"})
    assert set(found) == {"b"}
