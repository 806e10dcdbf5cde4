import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.errors import Corrupt
from registry.shelf import Shelf
from registry.store import Batch, Entry, Resync
from tests.unit.registry import made


def read(entry: Entry) -> bytes:
    if entry.value == b"bad":
        raise Corrupt(f"{entry.key}: is bad")
    return entry.value


@pytest.fixture
def problems() -> dict[str, str]:
    return {}


@pytest.fixture
def shelf(problems: dict[str, str]) -> Shelf[bytes]:
    return Shelf("p/", read, problems)


def entries(**values: str) -> tuple[Entry, ...]:
    return tuple(made.entry("p/" + name, value.encode()) for name, value in values.items())


def test_puts_and_deletes_move_their_keys_alone(shelf: Shelf[bytes]) -> None:
    assert shelf.apply(Resync(1, entries(a="1", b="1"))) == {"p/a", "p/b"}
    assert shelf.apply(Batch(2, entries(a="1", b="2"))) == {"p/b"}
    assert shelf.apply(Batch(3, (), ("p/a", "p/unknown"))) == {"p/a"}
    assert shelf.items == {"p/b": b"2"}


def test_what_cannot_be_read_keeps_the_last_good(shelf: Shelf[bytes], problems: dict[str, str]) -> None:
    shelf.apply(Resync(1, entries(a="1")))
    assert shelf.apply(Batch(2, entries(a="bad", b="bad"))) == frozenset()
    assert shelf.items == {"p/a": b"1"}
    assert problems == {"p/a": "p/a: is bad", "p/b": "p/b: is bad"}
    assert shelf.apply(Resync(3, entries(a="bad"))) == frozenset()
    assert (shelf.items, set(problems)) == ({"p/a": b"1"}, {"p/a"})
    shelf.apply(Batch(4, entries(a="2")))
    assert problems == {}


def test_a_problem_goes_with_its_key(shelf: Shelf[bytes], problems: dict[str, str]) -> None:
    shelf.apply(Batch(1, entries(a="bad")))
    shelf.apply(Batch(2, (), ("p/a",)))
    assert problems == {}


def test_a_listing_drops_the_few_that_it_lacks(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1", b="1")))
    assert shelf.apply(Resync(2, entries(b="1"))) == {"p/a"}
    assert (shelf.items, shelf.held) == ({"p/b": b"1"}, "")


def test_an_empty_listing_is_not_believed_until_adopted(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1")))
    assert shelf.apply(Resync(2, ())) == frozenset()
    assert shelf.items == {"p/a": b"1"}
    assert "1 of 1 keys" in shelf.held
    assert shelf.apply(Resync(3, ())) == frozenset()
    assert shelf.held
    assert shelf.adopt() == {"p/a"}
    assert (shelf.items, shelf.held) == ({}, "")


def test_a_listing_that_lacks_many_is_held_and_comes_back_by_itself(shelf: Shelf[bytes]) -> None:
    full = entries(a="1", b="1", c="1", d="1", e="1")
    shelf.apply(Resync(1, full))
    assert shelf.apply(Resync(2, entries(e="2"))) == {"p/e"}
    assert len(shelf.items) == 5
    assert shelf.held
    shelf.apply(Resync(3, full))
    assert shelf.held == ""


def test_a_deletion_said_by_itself_is_believed_also_while_others_are_held(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1", b="1")))
    shelf.apply(Resync(2, ()))
    assert shelf.apply(Batch(3, (), ("p/a",))) == {"p/a"}
    assert shelf.adopt() == {"p/b"}


def test_frozen_it_lets_nothing_go_and_takes_new_values_in(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1", b="1")))
    shelf.freeze("in doubt")
    assert shelf.held == "in doubt"
    assert shelf.apply(Batch(2, tuple(entries(c="1")), ("p/a",))) == {"p/c"}
    assert shelf.items.keys() == {"p/a", "p/b", "p/c"}
    assert shelf.unlisted == {"p/a"}
    assert shelf.thaw() == frozenset()
    assert "1 keys" in shelf.held
    assert shelf.adopt() == {"p/a"}


def test_parking_it_takes_nothing_in_until_thawed(problems: dict[str, str]) -> None:
    parking = Shelf("p/", read, problems, park=True)
    parking.apply(Resync(1, entries(a="1")))
    parking.freeze("in doubt")
    assert parking.apply(Batch(2, tuple(entries(a="2", b="2", c="2")))) == frozenset()
    assert parking.apply(Batch(3, (), ("p/c",))) == frozenset()
    assert parking.apply(Resync(4, entries(a="2", b="2"))) == frozenset()
    assert parking.items == {"p/a": b"1"}
    assert parking.thaw() == {"p/a", "p/b"}
    assert (parking.items, parking.held) == ({"p/a": b"2", "p/b": b"2"}, "")


def test_what_is_recalled_is_held_unless_the_store_has_it(problems: dict[str, str]) -> None:
    parking = Shelf("p/", read, problems, park=True)
    parking.freeze("in doubt")
    parking.apply(Resync(1, entries(a="2")))
    assert parking.recall(entries(a="1", b="1")) == {"p/a", "p/b"}
    assert parking.items == {"p/a": b"1", "p/b": b"1"}
    assert parking.unlisted == {"p/b"}
    assert parking.adopt() == {"p/a", "p/b"}
    assert parking.items == {"p/a": b"2"}


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "bad", None])), max_size=20))
def test_after_any_batches_each_key_has_its_last_good_value(writes: list[tuple[str, str | None]]) -> None:
    shelf: Shelf[bytes] = Shelf("p/", read, {})
    good: dict[str, bytes] = {}
    for version, (name, value) in enumerate(writes):
        key = "p/" + name
        if value is None:
            shelf.apply(Batch(version, (), (key,)))
            good.pop(key, None)
            continue
        shelf.apply(Batch(version, entries(**{name: value})))
        if value != "bad":
            good[key] = value.encode()
    assert shelf.items == good
