"""Blocking queries: what wakes them, and when they end."""

import asyncio
from collections.abc import Mapping

import pytest

from registry.api.answers import Problem
from registry.api.blocking import MAX_WAIT, Query, Scope, Waits, parse
from registry.backends.sqlite import SqliteStore

A, B = Scope("mesh/v1/a/"), Scope("mesh/v1/b/")


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        ({}, Query(0, 300.0)),
        ({"index": "7"}, Query(7, 300.0)),
        ({"index": "7", "wait": "10s"}, Query(7, 10.0)),
        ({"index": "7", "wait": ""}, Query(7, 300.0)),
        ({"index": "7", "wait": "0s"}, Query(7, 300.0)),
        ({"wait": "24h"}, Query(0, MAX_WAIT)),
        ({"index": str(2**64 - 1), "stale": ""}, Query(2**64 - 1, 300.0)),
    ],
)
def test_parse(query: Mapping[str, str], expected: Query) -> None:
    assert parse(query) == expected


@pytest.mark.parametrize(
    "query",
    [
        {"index": "x"},
        {"index": "-1"},
        {"index": str(2**64)},
        {"index": "\u0663"},
        {"wait": "10"},
        {"stale": "", "consistent": ""},
    ],
)
def test_what_is_refused(query: Mapping[str, str]) -> None:
    with pytest.raises(Problem) as caught:
        parse(query)
    assert caught.value.status == 400


async def test_without_an_index_nothing_is_waited_for(store: SqliteStore) -> None:
    written = await store.put("mesh/v1/a/1", b"")
    assert await Waits(lambda: 0.0).index(store, Query(0, 600.0), (A,)) == written


async def test_a_change_of_any_scope_wakes_and_others_do_not(store: SqliteStore) -> None:
    start = await store.put("mesh/v1/a/1", b"")
    waits = Waits(lambda: 0.0)

    async def write() -> int:
        await store.put("mesh/v1/c/1", b"")
        await store.put("elsewhere", b"")
        return await store.put("mesh/v1/b/1", b"")

    async with asyncio.timeout(10):
        found, written = await asyncio.gather(waits.index(store, Query(start, 600.0), (A, B)), write())
    assert found == written
    assert store.watching == 0


async def test_an_index_of_another_store_is_answered_at_once_for_several_scopes_too(store: SqliteStore) -> None:
    start = await store.put("mesh/v1/a/1", b"")
    for scopes in ((A,), (A, B)):
        async with asyncio.timeout(10):
            assert await Waits(lambda: 0.0).index(store, Query(10**6, 600.0), scopes) == start


async def test_a_wait_ends_with_the_index_as_it_is(store: SqliteStore) -> None:
    start = await store.put("mesh/v1/a/1", b"")
    for scopes in ((A,), (A, B)):
        assert await Waits(lambda: 0.99).index(store, Query(start, 0.01), scopes) == start
    assert store.watching == 0


async def test_release_lets_waits_go_and_further_ones_do_not_begin(store: SqliteStore) -> None:
    start = await store.put("mesh/v1/a/1", b"")
    waits = Waits(lambda: 0.0)

    async def release() -> None:
        while not store.watching:  # noqa: ASYNC110 - a wait has no event that says it began
            await asyncio.sleep(0.001)  # sleep: polls
        waits.release()

    async with asyncio.timeout(10):
        found, _ = await asyncio.gather(waits.index(store, Query(start, 600.0), (A,)), release())
        assert found == start
        assert await waits.index(store, Query(start, 600.0), (A,)) == start
