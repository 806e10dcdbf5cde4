"""The log of certificates: durable, bounded, filled in later exactly once."""

from pathlib import Path
from typing import cast

import pytest

from registry.ca.journal import Filled, Issued, Journal, Refused, publish
from registry.errors import Conflict, Unavailable
from registry.store import Store
from tests.fakes.authority import MemoryStore


def issued(serial: str, *, offline: bool = True) -> Issued:
    return Issued(
        at=86400.0,
        serial=serial,
        identity="spiffe://td/node/b",
        node="b",
        not_before=0,
        not_after=1,
        action="renew",
        key="k",
        by="a",
        offline=offline,
    )


def test_pending_is_what_was_issued_offline_and_not_filled(tmp_path: Path) -> None:
    book = Journal(tmp_path / "ca" / "journal.jsonl")
    assert book.pending() == ()
    refused = Refused(at=1.0, action="join", who="x", reason="y")
    for line in (issued("1"), issued("2"), issued("3", offline=False), refused, Filled(at=2.0, serial="1")):
        book.append(line)
    assert [item.serial for item in book.pending()] == ["2"]
    assert len(Journal(tmp_path / "ca" / "journal.jsonl").read()) == 5
    assert (tmp_path / "ca" / "journal.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_line_that_a_crash_cut_off_spoils_no_other(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path)
    book.append(issued("1"))
    path.write_bytes(path.read_bytes() + b'{"What":"issued","At":')
    book.append(issued("2"))
    assert [item.serial for item in book.pending()] == ["1", "2"]


def test_refusals_do_not_fill_the_disk_and_debts_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "journal.jsonl"
    book = Journal(path, max_bytes=4000)
    book.append(issued("1"))
    for number in range(500):
        book.append(Refused(at=float(number), action="join", who="x", reason="y"))
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10_000
    assert [item.serial for item in book.pending()] == ["1"]


def test_a_full_disk_is_unavailable(tmp_path: Path) -> None:
    (tmp_path / "ca").write_text("in the way")
    with pytest.raises(Unavailable, match="cannot be written"):
        Journal(tmp_path / "ca" / "journal.jsonl").append(issued("1"))


async def test_publish_is_create_only_and_repeatable() -> None:
    memory = MemoryStore()
    store = cast(Store, memory)
    await publish(store, issued("1"))
    assert list(memory.entries) == ["mesh/v1/ca/issued/1970-01-02/1"]
    await publish(store, issued("1"))
    assert memory.index == 1
    with pytest.raises(Conflict):
        await publish(store, issued("1", offline=False))
