"""Backup and restore on every store, also from one kind into another."""

import io
from pathlib import Path

import pytest

from registry import backup, keys, restore
from tests.contract.backends import Bench, open_sqlite

STORED = {
    keys.CONFIG + "mesh": b"MutualTLSMode: strict",
    keys.POLICY + "service-intentions/*": b"Sources: []",
    keys.POLICY + "service-router/web": b"x" * 200_000,
    keys.POLICY + "service-router/web2": b"y" * 200_000,
    keys.CA_ISSUED + "2026-11-23/ab12": b"\x00\xff",
    keys.HISTORY + "service-router/web-*/3": b"{}",
    keys.NODES + "a": b"",
    keys.STORE_ID: b"one.2",
    **{f"{keys.REVOCATIONS}{n:04}": b"%d" % n for n in range(150)},
}


async def test_a_backup_comes_back_into_the_emptied_store_and_into_another(bench: Bench, tmp_path: Path) -> None:
    store = bench.store
    for key, value in STORED.items():
        await store.put(key, value, flags=3 if key == keys.CONFIG + "mesh" else 0)
    await store.put(keys.STATUS + "a", b"not kept")
    file = io.BytesIO()
    backup.write(await backup.collect(store, "now"), file)
    file.seek(0)
    found = backup.read(file)
    assert found.header.store_id == "one.2"
    for key in (*STORED, keys.STATUS + "a"):
        await store.delete(key)
    (tmp_path / "other").mkdir()
    async with open_sqlite(tmp_path / "other") as other:
        for target in (store, other.store):
            rows = await restore.restore(target, found.lines)
            assert {row.verdict for row in rows} == {"new"}
            entries = (await target.list(keys.PREFIX)).entries
            assert {one.key: one.value for one in entries} == STORED
            assert next(one.flags for one in entries if one.key == keys.CONFIG + "mesh") == 3
            rows = await restore.restore(target, found.lines)
            assert {row.verdict for row in rows} == {"same"}


async def test_values_that_differ_are_left_unless_asked(bench: Bench) -> None:
    store = bench.store
    await store.put(keys.CONFIG + "mesh", b"old")
    lines = (await backup.collect(store, "now")).lines
    await store.put(keys.CONFIG + "mesh", b"new")
    with pytest.raises(restore.Differs):
        await restore.restore(store, lines)
    found = await store.get(keys.CONFIG + "mesh")
    assert found is not None
    assert found.value == b"new"
    await restore.restore(store, lines, overwrite=True)
    found = await store.get(keys.CONFIG + "mesh")
    assert found is not None
    assert found.value == b"old"
