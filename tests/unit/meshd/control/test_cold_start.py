"""The saved snapshot of a host: when it is written, and when a start may use it."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal

import msgspec
import pytest

from meshd.control.cold_start import MAX_AGE, ColdStart, max_age
from registry import keys, snapshot
from registry.ca.files import Layout
from registry.ca.init import First, init
from registry.model import Document
from registry.snapshot import Snapshot
from registry.store import Lost
from tests.unit.meshd.conftest import Single, until
from tests.unit.meshd.control.conftest import Clock, Lines

HEARD = 1000.0


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    init(tmp_path, First("a"), time.time())
    return Layout(tmp_path)


def taken(max_age: str = "1h") -> Snapshot:
    text = f"Registry: {{MaxSnapshotAge: {max_age}}}\n".encode()
    mesh = Document(kind="mesh", name="mesh", text=text, version=3)
    return Snapshot(node="a", trust_domain="mesh.local", heard=HEARD, documents=(mesh,))


Make = Callable[..., ColdStart]


@pytest.fixture
def make(layout: Layout, log: Lines, clock: Clock) -> Make:
    def made(found: Snapshot | None = None, old: Literal["serve", "deny"] = "serve") -> ColdStart:
        return ColdStart(layout, old, lambda: found, log, clock)

    return made


async def test_it_saves_what_it_is_given_and_loads_it(make: Make, clock: Clock) -> None:
    await make(taken()).flush()
    clock.now = HEARD + 60
    fresh = make()
    assert await fresh.load() == taken()
    assert (fresh.state.word, fresh.state.heard, fresh.state.reason) == ("serving", HEARD, "")


async def test_nothing_is_saved_before_the_registry_has_listed(make: Make, layout: Layout) -> None:
    await make(None).flush()
    assert not (layout.data_dir / "snapshot").exists()
    fresh = make()
    assert await fresh.load() is None
    assert fresh.state.word == "none"


@pytest.mark.parametrize(("old", "word"), [("serve", "serving"), ("deny", "too old")])
async def test_too_old_is_served_or_not_as_configured(
    make: Make, clock: Clock, old: Literal["serve", "deny"], word: str
) -> None:
    await make(taken()).flush()
    clock.now = HEARD + 3601
    fresh = make(old=old)
    assert (await fresh.load() is None) == (old == "deny")
    assert fresh.state.word == word
    assert "MaxSnapshotAge" in fresh.state.reason


async def test_tampered_is_refused_named_and_logged(make: Make, layout: Layout, log: Lines) -> None:
    await make(taken()).flush()
    path = layout.data_dir / "snapshot"
    path.write_bytes(path.read_bytes() + b" ")
    fresh = make()
    assert await fresh.load() is None
    assert fresh.state.word == "refused"
    assert "not signed" in fresh.state.reason
    assert "snapshot refused" in log.events()


async def test_a_disk_that_refuses_is_said_once(make: Make, layout: Layout, log: Lines) -> None:
    (layout.data_dir / "snapshot").mkdir()
    broken = make(taken())
    await broken.flush()
    await broken.flush()
    assert "snapshot" in broken.problem
    assert log.events().count("snapshot cannot be saved") == 1
    (layout.data_dir / "snapshot").rmdir()
    await broken.flush()
    assert broken.problem == ""


async def test_after_close_nothing_is_saved(make: Make, layout: Layout) -> None:
    leaving = make(taken())
    await leaving.close()
    path = layout.data_dir / "snapshot"
    before = path.read_bytes()
    path.unlink()
    await leaving.flush()
    assert not path.exists()
    assert before


async def test_the_age_is_bounded_by_the_mesh_document() -> None:
    assert max_age(taken("2h")) == 7200.0
    assert max_age(msgspec.structs.replace(taken(), documents=())) == MAX_AGE
    assert max_age(taken("nonsense")) == MAX_AGE


# ---- in a host ----------------------------------------------------------------------------------------------------


async def test_a_change_is_on_disk_soon_and_without_the_event_loop(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    path = single.host.data / "snapshot"
    await until("saved", lambda: path.exists() and b"web-1" in path.read_bytes())
    _, status = await single.call("GET", "/v1/mesh/status")
    assert status["registry"]["snapshot"]["state"] == "saved"


async def test_a_start_without_the_registry_compiles_from_the_snapshot(fresh: Single) -> None:
    agent = fresh.agent
    host = Layout(fresh.host.data)
    intention = Document(kind="service-intentions", name="web", text=b"Sources: []\n", version=4)
    kept = Snapshot(node="a", trust_domain="mesh.local", heard=time.time() - 30, index=5, documents=(intention,))
    await asyncio.to_thread(snapshot.write, fresh.host.data / "snapshot", kept, host)
    agent.load()
    agent.sync._take(keys.SERVICES, Lost("away"))
    assert not agent.sync._silent()
    agent.sync._started -= 60
    assert agent.sync._silent()
    await agent.sync._restore()
    assert not agent.sync._silent()
    assert agent.sync._may_compile()
    assert agent.documents.good["service-intentions", "web"].version == 4
    assert agent.fold.restored
    assert not agent.fold.complete
