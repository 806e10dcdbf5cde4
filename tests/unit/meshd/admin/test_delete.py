"""Each deletion and the word that it is meant are one transaction."""

import msgspec
import pytest

from meshd.admin.delete import TOGETHER, delete
from meshd.control import history
from registry import keys
from registry.api.answers import Problem
from registry.errors import Conflict
from tests.fakes.store import MemoryStore

KIND = "service-router"
WEB = (KIND, "web")


async def test_the_word_names_the_version_and_who() -> None:
    store = MemoryStore()
    version = await store.put(keys.policy(*WEB), b"{}")
    index = await delete(store, [WEB, WEB], {}, "ada", 0.0)
    assert index == version + 1
    assert keys.policy(*WEB) not in store.entries
    word = msgspec.json.decode(store.entries[keys.deletion(*WEB)].value, type=history.Deletion)
    assert (word.version, word.who, word.at) == (version, "ada", "1970-01-01T00:00:00Z")


async def test_one_that_does_not_exist_deletes_nothing() -> None:
    store = MemoryStore()
    await store.put(keys.policy(*WEB), b"{}")
    with pytest.raises(Problem) as refused:
        await delete(store, [WEB, (KIND, "absent")], {}, "ada", 0.0)
    assert "service-router/absent" in str(refused.value)
    assert list(store.entries) == [keys.policy(*WEB)]


async def test_one_that_is_only_held_is_given_a_word() -> None:
    store = MemoryStore()
    await delete(store, [WEB], {WEB: 4}, "ada", 0.0)
    assert await history.verdict(store, WEB, 4) == ("meant", store.index_now)


async def test_a_version_that_was_just_written_is_not_deleted() -> None:
    class Overtaken(MemoryStore):
        async def get(self, key: str):  # type: ignore[no-untyped-def]  # as the store's
            found = await super().get(key)
            await super().put(key, b"newer")
            return found

    store = Overtaken()
    await store.put(keys.policy(*WEB), b"{}")
    with pytest.raises(Conflict, match="nothing deleted"):
        await delete(store, [WEB], {}, "ada", 0.0)
    assert store.entries[keys.policy(*WEB)].value == b"newer"


async def test_hundreds_go_in_transactions_that_every_store_takes() -> None:
    sizes: list[int] = []

    class Counting(MemoryStore):
        async def transact(self, ops):  # type: ignore[no-untyped-def]  # as the store's
            sizes.append(len(ops))
            return await super().transact(ops)

    store = Counting()
    names = [(KIND, f"s{n}") for n in range(2 * TOGETHER + 1)]
    for name in names:
        await store.put(keys.policy(*name), b"{}")
    sizes.clear()
    await delete(store, names, {}, "ada", 0.0)
    assert sizes == [2 * TOGETHER, 2 * TOGETHER, 2]
    assert (await store.list(keys.POLICY)).entries == ()
