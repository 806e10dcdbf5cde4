"""What was deleted on purpose goes at once; what nobody answers for is held, until somebody does."""

from meshd.control import history
from registry import keys
from registry.errors import Unavailable
from tests.fakes.store import MemoryStore
from tests.unit.meshd.conftest import Single, until

KIND = "service-defaults"


def documents(count: int) -> str:
    return "---\n".join(f"Kind: {KIND}\nName: s{n}\nProtocol: http\n" for n in range(count))


def names(*numbers: int) -> list[str]:
    return [f"{KIND}/s{n}" for n in numbers]


async def given(single: Single, count: int) -> None:
    status, _ = await single.apply(documents(count))
    assert status == 200
    await until("known", lambda: len(single.agent.documents.good) == count)


async def lost_without_a_word(single: Single, *numbers: int) -> None:
    for number in numbers:
        await single.store.delete(keys.policy(KIND, f"s{number}"))


async def test_one_command_for_many_is_never_held(single: Single) -> None:
    await given(single, 10)
    status, _ = await single.call("POST", "/v1/mesh/delete", {"documents": names(*range(6))})
    assert status == 200
    await until("gone", lambda: len(single.agent.documents.good) == 4)
    assert single.agent.fold.held == {}
    assert not [event for event in single.log.errors() if "vanished" in event]
    assert (await single.store.list(keys.POLICY)).entries[0].key.endswith("/s6")


async def test_many_commands_for_one_each_are_never_held(single: Single) -> None:
    await given(single, 10)
    for name in names(*range(6)):
        assert (await single.call("DELETE", f"/v1/mesh/documents/{name}"))[0] == 200
    await until("gone", lambda: len(single.agent.documents.good) == 4)
    assert single.agent.fold.held == {}


async def test_a_single_deletion_by_any_tool_passes(single: Single) -> None:
    await given(single, 3)
    await lost_without_a_word(single, 1)
    await until("gone", lambda: len(single.agent.documents.good) == 2)
    assert single.agent.fold.held == {}


async def test_many_deletions_by_another_tool_are_held_said_and_let_go_of_by_a_word(single: Single) -> None:
    await given(single, 10)
    await lost_without_a_word(single, *range(5))
    await until("said", lambda: [event for event in single.log.errors() if "vanished from the store" in event])
    assert len(single.agent.documents.good) == 10
    _, rows = await single.call("GET", "/v1/mesh/documents")
    assert {row["name"] for row in rows if row["state"] == "held"} == {f"s{n}" for n in range(5)}
    _, status = await single.call("GET", "/v1/mesh/status")
    assert "policy/" in status["registry"]["held"]
    assert (await single.call("POST", "/v1/mesh/delete", {"documents": names(0, 1, 2)}))[0] == 200
    await until("let go of", lambda: len(single.agent.documents.good) == 7)
    await single.apply(documents(5))
    await until("written back", lambda: not single.agent.fold.held)
    await until("said", lambda: "no document is held any more" in single.log.events())


async def test_a_document_written_again_is_not_covered_by_an_older_word(single: Single) -> None:
    await given(single, 10)
    await single.call("POST", "/v1/mesh/delete", {"documents": names(*range(6))})
    await given(single, 10)
    await lost_without_a_word(single, *range(5))
    await until("held", lambda: len(single.agent.fold.held_documents) == 5)
    assert len(single.agent.documents.good) == 10


async def test_a_word_covers_versions_up_to_its_own_and_none_is_invented() -> None:
    store = MemoryStore()
    await store.transact([history.deletion(KIND, "s0", 7, "ada", 0.0)])
    assert await history.was_meant(store, KIND, "s0", 7)
    assert await history.was_meant(store, KIND, "s0", 3)
    assert not await history.was_meant(store, KIND, "s0", 8)
    assert not await history.was_meant(store, KIND, "s1", 1)
    await store.put(keys.deletion(KIND, "s0"), b"junk")
    assert not await history.was_meant(store, KIND, "s0", 1)
    assert keys.valid_key(keys.deletion(KIND, "web-*"))
    assert history.newest_first(store.entries.values()) == []


async def test_while_the_history_cannot_be_read_what_is_held_stays_held(single: Single) -> None:
    await given(single, 10)
    asked: list[str] = []

    class Away(MemoryStore):
        async def get(self, key: str) -> None:
            asked.append(key)
            raise Unavailable("away")

    single.agent.deletions._store = Away()
    await lost_without_a_word(single, *range(5))
    await until("asked", lambda: asked)
    await until("said", lambda: "cannot be asked whether its deletion was meant" in single.log.events())
    assert len(single.agent.documents.good) == 10
