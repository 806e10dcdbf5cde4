"""What was deleted on purpose goes at once; what nobody answers for is held, until somebody does."""

from collections.abc import Mapping

from meshd.control import history
from meshd.control.deletions import PATIENCE, Deletions, Name
from registry import keys
from registry.errors import Unavailable
from registry.fold import Fold, Verdict
from registry.store import Batch, Resync
from tests.fakes.store import MemoryStore
from tests.unit.meshd.conftest import Lines, Single, until
from tests.unit.registry import made

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
    store, s0 = MemoryStore(), (KIND, "s0")
    await store.transact([history.deletion(s0, 7, "ada", 0.0)])
    at = store.index_now
    assert await history.verdict(store, s0, 7) == ("meant", at)
    assert await history.verdict(store, s0, 3) == ("meant", at)
    assert await history.verdict(store, s0, 8) == (None, at)
    assert await history.verdict(store, (KIND, "s1"), 1) == (None, 0)
    await store.put(keys.deletion(*s0), b"junk")
    assert await history.verdict(store, s0, 1) == (None, store.index_now)
    assert keys.valid_key(keys.deletion(KIND, "web-*"))
    assert history.newest_first(store.entries.values()) == []


# ---- who judges, and who asks -------------------------------------------------------------------------------------


class Host:
    """A fold beside a store, and what is made of deletions; time is the test's."""

    def __init__(self, store: MemoryStore, *, judges: bool) -> None:
        self.store, self.fold, self.log, self.now = store, Fold(), Lines(), 0.0
        self.deletions = Deletions(store, self.fold, self._explained, self.log, lambda: 0.0, judges=judges)

    def _explained(self, verdicts: Mapping[Name, Verdict]) -> None:
        self.fold.explain(verdicts, self.now)

    def knows(self, *names: str) -> None:
        found = tuple(made.entry(keys.policy(KIND, name), b"{}", 5) for name in names)
        self.fold.apply(keys.POLICY, Resync(5, found), self.now)

    def loses(self, *names: str) -> None:
        self.fold.apply(keys.POLICY, Batch(6, (), tuple(keys.policy(KIND, name) for name in names)), self.now)

    async def looks(self, seconds: float = 0.0) -> set[str]:
        """The names in force afterwards."""
        self.now += seconds
        self.fold.settle(self.now)
        await self.deletions._round()
        return {name for _, name in self.fold.documents}


ALL = tuple(f"s{n}" for n in range(10))


async def test_a_host_that_sees_little_waits_for_one_with_a_role_and_does_as_it_says() -> None:
    store = MemoryStore()
    role, host = Host(store, judges=True), Host(store, judges=False)
    role.knows(*ALL)
    host.knows("s0", "s1")
    for one in (role, host):
        one.loses("s0")
    assert await host.looks(1.0) == {"s0", "s1"}
    assert "s0" not in await role.looks(0.2)
    assert await host.looks() == {"s1"}
    for one in (role, host):  # three more: a wave to who sees all
        one.loses("s1", "s2", "s3")
    assert set(ALL) == await role.looks(0.2)
    assert await host.looks() == {"s0", "s1"}
    assert host.fold.held_documents == {(KIND, "s0"), (KIND, "s1")}


async def test_without_any_word_a_host_judges_by_itself_in_the_end() -> None:
    host = Host(MemoryStore(), judges=False)
    host.knows("s0", "s1")
    host.loses("s0")
    assert await host.looks(PATIENCE - 0.1) == {"s0", "s1"}
    assert await host.looks(0.2) == {"s1"}


async def test_what_one_has_held_no_other_believes_and_what_was_meant_nobody_holds() -> None:
    store = MemoryStore()
    one, two = Host(store, judges=True), Host(store, judges=True)
    one.knows(*ALL)
    two.knows(*ALL)
    two.loses("s0")
    assert "s0" not in await two.looks(0.2)  # believed
    one.loses("s0", "s1", "s2", "s3")
    await one.looks()
    assert (await history.verdict(store, (KIND, "s0"), 5))[0] == "held"
    assert "s0" in await two.looks()
    await store.transact([history.deletion((KIND, "s0"), 5, "ada", 0.0)])
    for host in (one, two):
        assert "s0" not in await host.looks()


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
