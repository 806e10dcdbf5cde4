import io
import json

import pytest

from registry import backup, keys
from registry.errors import Corrupt, Denied
from tests.fakes.store import MemoryStore

STORED = {
    keys.CONFIG + "mesh": b"MutualTLSMode: strict",
    keys.POLICY + "service-intentions/*": b"\x00\xff not text",
    keys.CA_ISSUED + "2026-11-23/ab12": b"serial",
    keys.HISTORY + "mesh/mesh/3": b"{}",
    keys.NODES + "a": b"{}",
    keys.REVOCATIONS + "1f": b"{}",
    keys.STORE_ID: b"one.2",
    keys.LEASES + "a": b"alive",
    keys.STATUS + "a": b"{}",
    keys.SERVICES + "web/a/web-1": b"{}",
    keys.SESSIONS + "1f": b"{}",
}
KEPT = 7


async def stored() -> MemoryStore:
    store = MemoryStore()
    for key, value in STORED.items():
        await store.put(key, value)
    return store


async def written(*, services: bool = False) -> bytes:
    found = await backup.collect(await stored(), "2026-11-23T18:00:00Z", services=services)
    file = io.BytesIO()
    backup.write(found, file)
    return file.getvalue()


async def test_what_hosts_write_anew_is_left_out_and_all_else_comes_back() -> None:
    found = backup.read(io.BytesIO(await written()))
    assert found.header.store_id == "one.2"
    assert {line.key: line.value for line in found.lines} == {
        key: value for key, value in STORED.items() if backup.worth_keeping(key)
    }
    assert len(found.lines) == KEPT


async def test_instances_when_asked_for() -> None:
    found = backup.read(io.BytesIO(await written(services=True)))
    assert keys.SERVICES + "web/a/web-1" in {line.key for line in found.lines}


async def test_a_key_that_no_other_store_takes_is_named_not_written() -> None:
    store = await stored()
    await store.put(keys.POLICY + "service-router/a b", b"{}")
    found = await backup.collect(store, "now")
    assert found.skipped == (keys.POLICY + "service-router/a b",)
    assert len(found.lines) == KEPT


async def test_a_part_that_may_not_be_read_ends_it() -> None:
    """Consul leaves out of a listing what the token may not read."""
    store = await stored()
    store.failures.append(Denied("mesh/v1/ca/backup-probe: Permission denied"))
    with pytest.raises(Denied, match="ca/"):
        await backup.collect(store, "now")


async def test_any_changed_byte_is_noticed() -> None:
    whole = await written()
    for at in range(0, len(whole), 7):
        spoilt = whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :]
        with pytest.raises(Corrupt):
            backup.read(io.BytesIO(spoilt))


async def test_a_file_that_was_cut_off_is_noticed() -> None:
    whole = await written()
    for end in (0, 1, len(whole) // 2, whole.rindex(b"\n", 0, -1) + 1, len(whole) - 1):
        with pytest.raises(Corrupt):
            backup.read(io.BytesIO(whole[:end]))


async def test_progress_counts_the_keys() -> None:
    seen: list[int] = []
    backup.write(await backup.collect(await stored(), "now"), io.BytesIO(), seen.append)
    assert seen == list(range(1, KEPT + 1))


def forged(key: str) -> bytes:
    """A file with a right checksum and one key."""
    found = backup.Collected(
        backup.Header(format=backup.FORMAT, made="now", prefix=keys.PREFIX, store_id="", index=1),
        (backup.Line(key=key, version=1, created=1, flags=0, value=b"x"),),
        (),
    )
    file = io.BytesIO()
    backup.write(found, file)
    return file.getvalue()


@pytest.mark.parametrize("key", ["elsewhere/a", "mesh/v1/policy/../ca/x", "mesh/v1/leases/a", "mesh/v1/policy/a b/c"])
def test_keys_that_no_backup_holds_are_refused(key: str) -> None:
    with pytest.raises(Corrupt, match="no key"):
        backup.read(io.BytesIO(forged(key)))


def test_another_format_is_named() -> None:
    other = forged(keys.CONFIG + "mesh").replace(b"meshd-backup/1", b"meshd-backup/2")
    with pytest.raises(Corrupt, match="meshd-backup/2"):
        backup.read(io.BytesIO(other))


async def test_the_file_is_lines_of_json() -> None:
    lines = [json.loads(line) for line in (await written()).splitlines()]
    assert lines[0]["format"] == "meshd-backup/1"
    assert lines[-1]["entries"] == len(lines) - 2 == KEPT
