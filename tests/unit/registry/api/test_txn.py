"""Transactions: played, then written as played."""

import json
from typing import Any

import pytest
from aiohttp.test_utils import TestClient

from registry.api.answers import Problem
from registry.api.txn import Play, Step, fault, parse, run
from registry.backends.sqlite import SqliteStore
from registry.errors import Conflict
from registry.store import Entry, Op


def held(key: str, value: bytes = b"1", version: int = 5, lease: str | None = None) -> Entry:
    return Entry(key=key, value=value, version=version, created=3, lease=lease, lock_index=1 if lease else 0)


@pytest.mark.parametrize(
    ("step", "before", "wrong"),
    [
        (Step(verb="set", key="k"), None, ""),
        (Step(verb="delete", key="k"), None, ""),
        (Step(verb="get", key="k"), None, 'key "k" doesn\'t exist'),
        (Step(verb="get", key="k"), held("k"), ""),
        (Step(verb="cas", key="k", index=0), None, ""),
        (Step(verb="cas", key="k", index=0), held("k"), 'failed to set key "k", index is stale'),
        (Step(verb="cas", key="k", index=5), held("k"), ""),
        (Step(verb="delete-cas", key="k", index=4), held("k"), 'failed to delete key "k", index is stale'),
        (Step(verb="delete-cas", key="k", index=4), None, ""),
        (Step(verb="check-index", key="k", index=5), held("k"), ""),
        (Step(verb="check-index", key="k", index=5), None, 'failed to check index for key "k", key doesn\'t exist'),
        (Step(verb="check-not-exists", key="k"), None, ""),
        (Step(verb="check-not-exists", key="k"), held("k"), 'key "k" exists'),
        (Step(verb="check-session", key="k", session="s"), held("k", lease="s"), ""),
        (Step(verb="lock", key="k", session="s"), None, ""),
        (Step(verb="lock", key="k", session="s"), held("k", lease="s"), ""),
        (Step(verb="lock", key="k", session="s"), held("k", lease="t"), 'failed to lock key "k", lock is already held'),
        (Step(verb="lock", key="k", session="x"), None, 'invalid session "x"'),
        (Step(verb="unlock", key="k", session="s"), held("k", lease="s"), ""),
        (Step(verb="nonsense", key="k"), None, 'unknown KV verb "nonsense"'),
    ],
)
def test_when_a_step_fails(step: Step, before: Entry | None, wrong: str) -> None:
    assert fault(step, before, frozenset({"s"})) == wrong


def test_what_a_play_writes_is_one_operation_per_key_guarded_by_what_was_read() -> None:
    play = Play({"a": held("a"), "c": held("c", version=9), "t/1": held("t/1", version=4)}, frozenset())
    for at, step in enumerate(
        [
            Step(verb="check-index", key="c", index=9),
            Step(verb="check-not-exists", key="none"),
            Step(verb="set", key="a", value=b"2"),
            Step(verb="set", key="a", value=b"3"),
            Step(verb="delete-tree", key="t/"),
            Step(verb="get", key="a"),
        ]
    ):
        play.step(at, step)
    assert play.errors == []
    assert play.ops() == [
        Op(key="a", value=b"3", expect=5),
        Op(key="c", value=b"1", expect=9),  # unchanged: writes nothing, and fails if it is no longer so
        Op(key="none", value=None, expect=0),
        Op(key="t/1", value=None, expect=4),
    ]
    assert [(r.Key, r.Value, r.ModifyIndex) for r in play.at(77).results] == [
        ("c", None, 9),
        ("a", None, 77),
        ("a", None, 77),
        ("a", b"3", 77),
    ]


def test_a_play_that_writes_nothing_has_no_operations() -> None:
    play = Play({}, frozenset())
    play.step(0, Step(verb="check-not-exists", key="a"))
    assert play.ops() == []


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"{x", 400),
        (b'[{"KV": {"Verb": "set", "Key": "../a"}}]', 400),
        (b'[{"KV": {"Verb": "set", "Key": ""}}]', 400),
        (b'[{"KV": {"Verb": "set", "Key": "a", "Flags": -1}}]', 400),
        (b'[{"KV": {"Verb": "set", "Key": "a", "Value": "not base64"}}]', 400),
        (b'[{"Node": {"Verb": "set"}}]', 400),
        (json.dumps([{}] * 65).encode(), 413),
    ],
)
def test_bad_bodies(body: bytes, status: int) -> None:
    with pytest.raises(Problem) as caught:
        parse(body)
    assert caught.value.status == status


class Contended(SqliteStore):
    """Another writer always comes between reading and writing."""

    async def transact(self, ops: Any) -> int:
        if any(op.expect is not None for op in ops):
            await super().transact([Op(key="k", value=str(await self.index("k")).encode())])
        return await super().transact(ops)


async def test_a_transaction_that_never_finds_a_quiet_moment_conflicts(tmp_path: Any) -> None:
    store = Contended.open(tmp_path / "registry.db")
    try:
        with pytest.raises(Conflict, match="16 times"):
            await run(store, [Step(verb="set", key="k", value=b"x")], lambda _key: None)
    finally:
        await store.close()


async def test_over_http_it_is_all_or_nothing(api: TestClient, store: SqliteStore) -> None:
    async def send(*steps: dict[str, Any]) -> tuple[int, Any]:
        async with api.put("/v1/txn", data=json.dumps([{"KV": step} for step in steps])) as answer:
            return answer.status, await answer.json()

    status, _ = await send({"Verb": "set", "Key": "a", "Value": "eA=="}, {"Verb": "cas", "Key": "b", "Index": 7})
    assert status == 409
    assert await store.get("a") is None
    status, found = await send({"Verb": "set", "Key": "a", "Value": "eA=="}, {"Verb": "get", "Key": "a"})
    assert status == 200
    assert [r["KV"]["Value"] for r in found["Results"]] == [None, "eA=="]
    entry = await store.get("a")
    assert entry is not None
    assert entry.version == found["Results"][1]["KV"]["ModifyIndex"]
