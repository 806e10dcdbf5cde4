import pytest

from registry import keys, restore
from registry.backup import Line
from registry.errors import Conflict, TooLarge
from registry.restore import CHUNK, Differs
from registry.store import Op
from tests.fakes.store import MemoryStore
from tests.unit.registry.made import entry

MESH = keys.CONFIG + "mesh"


def line(key: str, value: bytes = b"ours") -> Line:
    return Line(key=key, version=9, created=9, flags=0, value=value)


@pytest.mark.parametrize(
    ("key", "ours", "theirs", "verdict"),
    [
        (MESH, b"a", None, "new"),
        (MESH, b"a", b"a", "same"),
        (MESH, b"a", b"b", "differs"),
        (keys.NODES + "a", b"a", b"b", "kept"),
        (keys.STORE_ID, b"one.1", b"one.2", "kept"),
        (keys.STORE_ID, b"one.2", b"one.1", "differs"),
        (keys.STORE_ID, b"one", b"two", "differs"),
    ],
)
def test_what_happens_to_a_key(key: str, ours: bytes, theirs: bytes | None, verdict: str) -> None:
    present = {key: entry(key, theirs, 4)} if theirs is not None else {}
    (row,) = restore.plan([line(key, ours)], present)
    assert row.verdict == verdict


@pytest.mark.parametrize(
    ("theirs", "verdict"),
    [
        (b'{"At": "2026-11-23T18:00:05Z", "Who": "unknown", "Text": "a"}', "earlier"),
        (b'{"At": "2026-11-23T17:00:00Z", "Who": "bob", "Text": "a"}', "kept"),
        (b'{"At": "2026-11-23T18:00:05Z", "Who": "bob", "Text": "b"}', "kept"),
        (b"no record", "kept"),
    ],
)
async def test_a_version_that_a_host_recorded_anew_is_again_its_author_s(theirs: bytes, verdict: str) -> None:
    """Found on a wiped registry: its host records what it holds, before anybody can restore."""
    ours = b'{"At": "2026-11-23T18:00:00Z", "Who": "ada", "Text": "a"}'
    key = keys.history("mesh", "mesh", 3)
    store = MemoryStore()
    await store.put(key, theirs)
    (row,) = await restore.restore(store, [line(key, ours)])
    assert row.verdict == verdict
    assert store.entries[key].value == (ours if verdict == "earlier" else theirs)


def test_the_store_s_id_is_written_last_and_alone() -> None:
    lines = [line(keys.STORE_ID), *(line(f"{keys.POLICY}mesh/x{n}") for n in range(CHUNK + 1))]
    found = restore.portions(restore.plan(lines, {}), {one.key: one for one in lines})
    assert [len(ops) for ops in found] == [CHUNK, 1, 1]
    assert found[-1][0].key == keys.STORE_ID


def test_large_values_are_spread_over_transactions() -> None:
    lines = [line(f"{keys.POLICY}mesh/x{n}", b"x" * 200_000) for n in range(3)]
    found = restore.portions(restore.plan(lines, {}), {one.key: one for one in lines})
    assert [len(ops) for ops in found] == [1, 1, 1]


async def test_nothing_is_written_while_a_value_differs() -> None:
    store = MemoryStore()
    await store.put(MESH, b"theirs")
    before = dict(store.entries)
    with pytest.raises(Differs, match="config/mesh"):
        await restore.restore(store, [line(MESH), line(keys.POLICY + "mesh/a")])
    assert store.entries == before


async def test_overwrite_takes_the_backup_s_value_and_doing_it_again_writes_nothing() -> None:
    store = MemoryStore()
    await store.put(MESH, b"theirs")
    lines = [line(MESH), line(keys.POLICY + "mesh/a")]
    rows = await restore.restore(store, lines, overwrite=True)
    assert [row.verdict for row in rows] == ["differs", "new"]
    assert store.entries[MESH].value == b"ours"
    index = store.index_now
    rows = await restore.restore(store, lines)
    assert [row.verdict for row in rows] == ["same", "same"]
    assert store.index_now == index


async def test_what_the_backup_does_not_know_is_named_and_stays() -> None:
    store = MemoryStore()
    await store.put(keys.POLICY + "fault/x", b"newer")
    _, extra = await restore.look(store, [line(MESH)])
    assert extra == (keys.POLICY + "fault/x",)
    await restore.restore(store, [line(MESH)])
    assert store.entries[keys.POLICY + "fault/x"].value == b"newer"


class Racing(MemoryStore):
    """Somebody writes a host's key between the look and the write, once."""

    raced = False

    async def transact(self, ops: "list[Op]") -> int:  # type: ignore[override]  # as the base, of lists
        if not self.raced:
            self.raced = True
            await super().transact([Op(key=keys.NODES + "a", value=b"its own")])
        return await super().transact(ops)


async def test_a_host_that_writes_meanwhile_is_looked_at_again() -> None:
    store = Racing()
    await restore.restore(store, [line(keys.NODES + "a"), line(MESH)])
    assert store.entries[keys.NODES + "a"].value == b"its own"
    assert store.entries[MESH].value == b"ours"


async def test_writers_that_never_rest_end_it() -> None:
    store = MemoryStore()
    lines = [line(MESH)]

    class Contended(MemoryStore):
        async def transact(self, ops: "list[Op]") -> int:  # type: ignore[override]  # as the base, of lists
            raise Conflict(f"{ops[0].key}: is at another version")

    with pytest.raises(Conflict, match="others wrote"):
        await restore.restore(Contended(), lines)
    assert not store.entries


async def test_a_value_that_the_store_does_not_take_is_said_before_anything_is_written() -> None:
    store = MemoryStore()
    with pytest.raises(TooLarge, match="fault/big"):
        await restore.restore(store, [line(MESH), line(keys.POLICY + "fault/big", b"x" * (store.max_value + 1))])
    assert not store.entries


async def test_progress_ends_at_the_total() -> None:
    seen: list[tuple[int, int]] = []
    lines = [line(f"{keys.POLICY}mesh/x{n}") for n in range(CHUNK + 6)]
    await restore.restore(MemoryStore(), lines, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(CHUNK, CHUNK + 6), (CHUNK + 6, CHUNK + 6)]
