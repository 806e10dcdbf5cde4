import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.backends import sqlite_schema
from registry.backends import sqlite_tables as tables
from registry.errors import Conflict, NotFound
from registry.store import Behavior, Lease, Op


@pytest.fixture
def db(tmp_path: Path) -> Iterator[sqlite3.Connection]:
    connection = sqlite_schema.connect(tmp_path / "registry.db")
    yield connection
    connection.close()


def put(key: str, value: bytes = b"1", **more: object) -> Op:
    return Op(key=key, value=value, **more)  # type: ignore[arg-type]  # what the test passes


def delete(key: str) -> Op:
    return Op(key=key, value=None)


def test_a_transaction_tells_what_changed_in_the_end(db: sqlite3.Connection) -> None:
    answer, changes = tables.transact(db, 5, [put("a"), put("b"), delete("a"), put("b", b"2"), delete("none")])
    assert answer == 5
    assert changes is not None
    assert ([(e.key, e.value) for e in changes.puts], changes.deletes) == ([("b", b"2")], ("a",))
    assert tables.get(db, "a") is None


def test_a_key_that_was_deleted_and_put_in_one_transaction_is_a_put(db: sqlite3.Connection) -> None:
    tables.transact(db, 5, [put("a")])
    _, changes = tables.transact(db, 6, [delete("a"), put("a", b"2")])
    assert changes is not None
    assert ([(e.key, e.created) for e in changes.puts], changes.deletes) == ([("a", 6)], ())


def test_what_changes_nothing_answers_what_stands(db: sqlite3.Connection) -> None:
    tables.transact(db, 5, [put("a")])
    assert tables.transact(db, 6, [put("a")]) == (5, None)
    tables.save_index(db, 5)
    assert tables.transact(db, 6, [delete("none")]) == (5, None)
    assert tables.transact(db, 6, []) == (5, None)


def test_flags_alone_are_a_change(db: sqlite3.Connection) -> None:
    tables.transact(db, 5, [put("a")])
    assert tables.transact(db, 6, [put("a", flags=1)])[0] == 6


@pytest.mark.parametrize(("expect", "words"), [(0, "expected absent, it is at version 5"), (4, "expected version 4")])
def test_a_conflict_says_what_was_expected_and_what_is(db: sqlite3.Connection, expect: int, words: str) -> None:
    tables.transact(db, 5, [put("a")])
    with pytest.raises(Conflict, match=f"a: {words}"):
        tables.transact(db, 6, [put("a", b"2", expect=expect)])
    with pytest.raises(Conflict, match="b: expected version 3, it is absent"):
        tables.transact(db, 6, [put("b", expect=3)])


def test_the_index_of_a_prefix_counts_deletions_and_never_falls(db: sqlite3.Connection) -> None:
    tables.transact(db, 5, [put("p/a"), put("pa")])
    tables.transact(db, 6, [put("p/b")])
    tables.transact(db, 7, [delete("p/b")])
    tables.transact(db, 8, [put("q")])
    assert [tables.prefix_index(db, *of) for of in (("p/", False), ("p/a", True), ("p/b", True), ("none/", False))] == [
        7,
        5,
        7,
        1,
    ]
    assert not tables.prune(db, keep=1)
    assert tables.prune(db, keep=0)
    assert tables.prefix_index(db, "p/", False) == 7
    assert tables.prefix_index(db, "none/", False) == 7


def test_the_newest_deletions_are_kept(db: sqlite3.Connection) -> None:
    for index in range(5, 10):
        tables.transact(db, index, [put(f"k{index}")])
        tables.transact(db, index + 10, [delete(f"k{index}")])
    assert tables.prune(db, keep=2)
    assert [tables.prefix_index(db, f"k{n}", True) for n in range(5, 10)] == [17, 17, 17, 18, 19]


def test_a_lease_that_does_not_exist_is_named(db: sqlite3.Connection) -> None:
    with pytest.raises(NotFound, match="a: lease nobody"):
        tables.transact(db, 5, [put("a", lease="nobody")])


def test_ending_leases_is_one_change_whatever_they_do_to_their_keys(db: sqlite3.Connection) -> None:
    behaviors: dict[str, Behavior] = {"gone": "delete", "free": "release"}
    for name, behavior in behaviors.items():
        lease = Lease(id=name, name="", ttl=1.0, behavior=behavior, created=0)
        tables.grant(db, 4, lease)
        tables.transact(db, 5, [put(f"of-{name}", lease=name)])
    assert [lease.created for lease in tables.leases(db)] == [4, 4]
    ended, changes = tables.end_leases(db, 6, ["gone", "free", "unknown"])
    assert ended == 2
    assert changes is not None
    assert changes.deletes == ("of-gone",)
    assert [(e.key, e.lease, e.version) for e in changes.puts] == [("of-free", None, 6)]
    assert tables.end_leases(db, 7, ["gone"]) == (0, None)


def test_a_lock_is_released_by_its_holder_alone(db: sqlite3.Connection) -> None:
    tables.grant(db, 4, Lease(id="one", name="", ttl=1.0, behavior="delete", created=0))
    tables.grant(db, 4, Lease(id="two", name="", ttl=1.0, behavior="delete", created=0))
    assert tables.acquire(db, 5, put("lock", lease="one"))[0]
    assert tables.acquire(db, 6, put("lock", b"2", lease="two")) == (False, None)
    assert tables.release(db, 6, put("lock", b"2", lease="two")) == (False, None)
    assert tables.release(db, 6, put("none", lease="two")) == (False, None)
    assert tables.release(db, 6, put("lock", b"2", lease="one"))[0]
    assert tables.release(db, 7, put("lock", b"2")) == (False, None)


WRITES = st.lists(st.tuples(st.sampled_from(["a", "a/b", "ab", "b"]), st.sampled_from([b"1", b"2", None])), max_size=20)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(WRITES)
def test_indexes_of_prefixes_are_those_of_the_last_change_below_them(
    db: sqlite3.Connection, writes: list[tuple[str, bytes | None]]
) -> None:
    db.execute("BEGIN")
    try:
        last: dict[str, int] = {}
        for index, (key, value) in enumerate(writes, start=2):
            if tables.transact(db, index, [Op(key=key, value=value)])[1] is not None:
                last[key] = index
        for prefix in ("", "a", "a/", "b", "c"):
            below = [index for key, index in last.items() if key.startswith(prefix)]
            assert tables.prefix_index(db, prefix, False) == max(below, default=1)
            assert tables.prefix_index(db, prefix, True) == last.get(prefix, 1)
    finally:
        db.execute("ROLLBACK")
