"""The gate: each refusal leaves a trace before it is raised."""

import logging
from pathlib import Path
from typing import cast

import pytest

from registry.ca import certificate, csr, files, journal
from registry.ca.gate import Audit, Gate
from registry.errors import Denied, Unavailable
from registry.store import Store
from tests.fakes.authority import World, world

NOW = 1_700_000_000.0


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path, now=NOW)


def gate(made: World) -> Gate:
    audit = Audit(logging.getLogger("test"), journal.Journal(made.layout.journal), made.clock.time)
    roots = files.read_certificates(made.layout.roots)
    return Gate("mesh.local", roots, made.layout.revocations, cast(Store, made.store), made.clock.time, audit)


async def test_refusals_reach_log_and_journal(made: World, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(Denied, match="certificate request"):
        await gate(made).key("sign", "somebody", "x")
    (line,) = journal.Journal(made.layout.journal).read()
    assert isinstance(line, journal.Refused)
    assert (line.at, line.action, line.who) == (NOW, "sign", "somebody")
    (record,) = caplog.records
    assert (record.__dict__["action"], record.__dict__["who"]) == ("sign", "somebody")


async def test_a_proven_key_passes(made: World) -> None:
    key = certificate.new_key()
    assert await gate(made).key("sign", "x", csr.make(key)) == key.public_key()


async def test_revocations_are_kept_on_disk_once(made: World) -> None:
    checked = gate(made)
    await made.store.put("mesh/v1/revocations/1", b'{"Serial": "ab"}')
    await checked.revocations()
    first = made.layout.revocations.stat().st_ino
    await checked.revocations()
    assert made.layout.revocations.stat().st_ino == first
    await made.store.delete("mesh/v1/revocations/1")
    await checked.revocations()
    assert made.layout.revocations.stat().st_ino != first


@pytest.mark.parametrize("kept", [b"", b"[]", b"\xff", b'{"a": 1}'])
async def test_a_damaged_memory_of_revocations_is_none(made: World, kept: bytes) -> None:
    files.write(made.layout.revocations, kept)
    with pytest.raises(Unavailable, match="never seen"):
        gate(made).last_revocations(Unavailable("away"))
