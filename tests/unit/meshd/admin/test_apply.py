"""Applying: all or nothing, by compare-and-set, never over somebody else's write."""

import pytest

from meshd.admin import apply
from registry import keys
from registry.errors import Conflict
from registry.store import Op
from tests.fakes.store import MemoryStore

TWO = b"Kind: service-defaults\nName: a\nProtocol: http\n---\nKind: service-defaults\nName: b\nProtocol: tcp\n"


class Racing(MemoryStore):
    """Somebody else writes between our read and our write."""

    async def transact(self, ops: list[Op]) -> int:  # type: ignore[override] - a list is what the code under test passes
        if any(op.expect is not None and op.key.startswith(keys.POLICY) for op in ops):
            await super().transact([Op(key=ops[-1].key, value=b"theirs")])
        return await super().transact(ops)


async def test_all_documents_are_written_with_one_history_entry_each() -> None:
    store = MemoryStore()
    applied = await apply.write(store, apply.plan(TWO), "ada", 0.0)
    assert [(one.name, one.changed) for one in applied] == [("a", True), ("b", True)]
    for one in applied:
        assert store.entries[keys.history("service-defaults", one.name, one.version)]
    again = await apply.write(store, apply.plan(TWO), "ada", 0.0)
    assert [one.changed for one in again] == [False, False]
    assert [one.version for one in again] == [one.version for one in applied]


async def test_who_loses_the_race_writes_nothing() -> None:
    store = Racing()
    with pytest.raises(Conflict, match="nothing was written"):
        await apply.write(store, apply.plan(TWO), "ada", 0.0)
    assert keys.policy("service-defaults", "a") not in store.entries
    assert not [key for key in store.entries if key.startswith(keys.HISTORY)]


def test_every_problem_of_every_document_is_named_with_its_line() -> None:
    with pytest.raises(apply.Refused) as caught:
        apply.plan(TWO.replace(b"Protocol", b"Protokol"))
    rows = caught.value.rows
    assert [(row.document, row.line) for row in rows] == [("service-defaults/a", 3), ("service-defaults/b", 7)]
    assert caught.value.response().status == 400


def test_an_empty_file_is_refused() -> None:
    with pytest.raises(apply.Refused):
        apply.plan(b"# nothing\n")


def test_dry_shows_what_would_be_written() -> None:
    assert [one.name for one in apply.dry(apply.plan(TWO))] == ["a", "b"]
