import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.brake import WINDOW
from registry.errors import Corrupt
from registry.shelf import SETTLE, Shelf
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


def numbered(count: int) -> tuple[Entry, ...]:
    return tuple(made.entry(name, b"1") for name in names(0, count))


def names(first: int, end: int) -> tuple[str, ...]:
    return tuple(f"p/{n}" for n in range(first, end))


def settling(*found: Entry) -> Shelf[bytes]:
    shelf = Shelf("p/", read, {}, settle=SETTLE)
    shelf.apply(Resync(1, found), 0.0)
    return shelf


def test_puts_and_deletes_move_their_keys_alone(shelf: Shelf[bytes]) -> None:
    assert shelf.apply(Resync(1, entries(a="1", b="1")), 0.0) == {"p/a", "p/b"}
    assert shelf.apply(Batch(2, entries(a="1", b="2")), 0.0) == {"p/b"}
    assert shelf.apply(Batch(3, (), ("p/a", "p/unknown")), 0.0) == {"p/a"}
    assert shelf.items == {"p/b": b"2"}


def test_what_cannot_be_read_keeps_the_last_good(shelf: Shelf[bytes], problems: dict[str, str]) -> None:
    shelf.apply(Resync(1, entries(a="1")), 0.0)
    assert shelf.apply(Batch(2, entries(a="bad", b="bad")), 0.0) == frozenset()
    assert shelf.items == {"p/a": b"1"}
    assert problems == {"p/a": "p/a: is bad", "p/b": "p/b: is bad"}
    assert shelf.apply(Resync(3, entries(a="bad")), 0.0) == frozenset()
    assert (shelf.items, set(problems)) == ({"p/a": b"1"}, {"p/a"})
    shelf.apply(Batch(4, entries(a="2")), 0.0)
    assert problems == {}


def test_a_problem_goes_with_its_key(shelf: Shelf[bytes], problems: dict[str, str]) -> None:
    shelf.apply(Batch(1, entries(a="bad")), 0.0)
    shelf.apply(Batch(2, (), ("p/a",)), 0.0)
    assert problems == {}


def test_a_listing_drops_the_few_that_it_lacks(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1", b="1")), 0.0)
    assert shelf.apply(Resync(2, entries(b="1")), 0.0) == {"p/a"}
    assert (shelf.items, shelf.held) == ({"p/b": b"1"}, "")


def test_an_empty_listing_is_not_believed_until_adopted(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1")), 0.0)
    assert shelf.apply(Resync(2, ()), 0.0) == frozenset()
    assert shelf.items == {"p/a": b"1"}
    assert "1 of 1 keys" in shelf.held
    assert shelf.apply(Resync(3, ()), 0.0) == frozenset()
    assert shelf.held
    assert shelf.adopt() == {"p/a"}
    assert (shelf.items, shelf.held) == ({}, "")


def test_a_listing_that_lacks_many_is_held_and_comes_back_by_itself(shelf: Shelf[bytes]) -> None:
    full = entries(a="1", b="1", c="1", d="1", e="1")
    shelf.apply(Resync(1, full), 0.0)
    assert shelf.apply(Resync(2, entries(e="2")), 0.0) == {"p/e"}
    assert len(shelf.items) == 5
    assert shelf.held
    shelf.apply(Resync(3, full), 0.0)
    assert shelf.held == ""


def test_a_deletion_said_by_itself_is_believed_also_while_others_are_held(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, numbered(10)), 0.0)
    shelf.apply(Batch(2, (), names(0, 5)), 0.0)
    assert len(shelf.unlisted) == 5
    assert shelf.apply(Batch(3, (), ("p/9",)), WINDOW + 1) == {"p/9"}
    assert shelf.adopt() == set(names(0, 5))


def test_frozen_it_lets_nothing_go_and_takes_new_values_in(shelf: Shelf[bytes]) -> None:
    shelf.apply(Resync(1, entries(a="1", b="1")), 0.0)
    shelf.freeze("in doubt")
    assert shelf.held == "in doubt"
    assert shelf.apply(Batch(2, tuple(entries(c="1")), ("p/a",)), 0.0) == {"p/c"}
    assert shelf.items.keys() == {"p/a", "p/b", "p/c"}
    assert shelf.unlisted == {"p/a"}
    assert shelf.thaw() == frozenset()
    assert "1 keys" in shelf.held
    assert shelf.adopt() == {"p/a"}


def test_parking_it_takes_nothing_in_until_thawed(problems: dict[str, str]) -> None:
    parking = Shelf("p/", read, problems, park=True)
    parking.apply(Resync(1, entries(a="1")), 0.0)
    parking.freeze("in doubt")
    assert parking.apply(Batch(2, tuple(entries(a="2", b="2", c="2"))), 0.0) == frozenset()
    assert parking.apply(Batch(3, (), ("p/c",)), 0.0) == frozenset()
    assert parking.apply(Resync(4, entries(a="2", b="2")), 0.0) == frozenset()
    assert parking.items == {"p/a": b"1"}
    assert parking.thaw() == {"p/a", "p/b"}
    assert (parking.items, parking.held) == ({"p/a": b"2", "p/b": b"2"}, "")


def test_what_is_recalled_is_held_unless_the_store_has_it(problems: dict[str, str]) -> None:
    parking = Shelf("p/", read, problems, park=True)
    parking.freeze("in doubt")
    parking.apply(Resync(1, entries(a="2")), 0.0)
    assert parking.recall(entries(a="1", b="1")) == {"p/a", "p/b"}
    assert parking.items == {"p/a": b"1", "p/b": b"1"}
    assert parking.unlisted == {"p/b"}
    assert parking.adopt() == {"p/a", "p/b"}
    assert parking.items == {"p/a": b"2"}


# ---- deletions, judged together -----------------------------------------------------------------------------------


def test_a_deletion_settles_before_it_takes_force_and_a_put_takes_it_back() -> None:
    shelf = settling(*entries(a="1", b="1"))
    assert shelf.apply(Batch(2, (), ("p/a", "p/b")), 5.0) == frozenset()
    assert shelf.next_due() == 5.0 + SETTLE
    assert shelf.apply(Batch(3, entries(b="2")), 5.0) == {"p/b"}
    assert shelf.expire(5.0 + SETTLE / 2) == frozenset()
    assert shelf.expire(5.0 + SETTLE) == {"p/a"}
    assert (shelf.items, shelf.held, shelf.next_due()) == ({"p/b": b"2"}, "", None)


def test_many_deletions_of_one_batch_are_held() -> None:
    shelf = settling(*numbered(10))
    assert shelf.apply(Batch(2, (), names(0, 4)), 5.0) == frozenset()
    assert shelf.expire(6.0) == frozenset()
    assert (len(shelf.items), shelf.unlisted) == (10, set(names(0, 4)))
    assert shelf.held.startswith("4 of 10 keys vanished")


def test_a_wave_of_single_deletions_is_held_and_what_had_left_comes_back() -> None:
    shelf = settling(*numbered(10))
    for number, at in enumerate((0.0, 20.0, 40.0)):
        shelf.apply(Batch(2, (), (f"p/{number}",)), at)
        assert shelf.expire(at + SETTLE) == {f"p/{number}"}
    assert shelf.unexplained == set(names(0, 3))
    assert shelf.apply(Batch(3, (), ("p/3",)), 55.0) == set(names(0, 3))
    assert (len(shelf.items), shelf.unlisted) == (10, set(names(0, 4)))
    assert shelf.apply(Batch(4, (), ("p/4",)), 56.0) == frozenset()  # a fifth joins them
    assert shelf.unlisted == set(names(0, 5))


def test_slow_deletions_are_no_wave() -> None:
    shelf = settling(*numbered(10))
    for number in range(8):
        shelf.apply(Batch(2, (), (f"p/{number}",)), 30.0 * number)
        shelf.expire(30.0 * number + SETTLE)
    assert (shelf.items.keys(), shelf.held) == ({"p/8", "p/9"}, "")


def test_few_of_many_are_no_wave() -> None:
    shelf = settling(*numbered(100))
    shelf.apply(Batch(2, (), names(0, 20)), 0.0)
    assert (len(shelf.expire(SETTLE)), shelf.held) == (20, "")


def test_listings_of_single_keys_speak_of_those_keys_only() -> None:
    shelf = settling(*numbered(10))
    for key in names(0, 4):
        assert shelf.apply(Resync(5, ()), 1.0, key) == frozenset()
    assert shelf.unlisted == set(names(0, 4))
    assert shelf.expire(2.0) == frozenset()
    assert shelf.apply(Resync(6, entries(**{"0": "2"})), 3.0, "p/0") == {"p/0"}
    assert shelf.unlisted == set(names(1, 4))


def test_a_listing_of_one_key_is_no_listing_of_keys_that_begin_so() -> None:
    shelf = settling(*entries(web="1", web2="1"))
    shelf.apply(Resync(2, ()), 1.0, "p/web")
    assert shelf.expire(2.0) == {"p/web"}
    assert shelf.items.keys() == {"p/web2"}


def test_the_last_keys_going_by_listings_are_held_however_few() -> None:
    shelf = settling(*entries(a="1", b="1"))
    shelf.apply(Resync(2, ()), 1.0, "p/a")
    shelf.apply(Resync(2, ()), 1.0, "p/b")
    assert shelf.expire(2.0) == frozenset()
    assert shelf.unlisted == {"p/a", "p/b"}


def test_a_listing_that_replaces_a_key_by_another_is_believed() -> None:
    shelf = settling(*entries(a="1"))
    assert shelf.apply(Resync(2, entries(b="1")), 1.0) == {"p/b"}
    assert shelf.expire(2.0) == {"p/a"}


def test_meant_deletions_go_at_once_and_count_for_no_wave() -> None:
    shelf = settling(*numbered(10))
    shelf.apply(Batch(2, (), names(0, 3)), 0.0)
    assert shelf.meant(names(0, 3)) == set(names(0, 3))
    shelf.apply(Batch(3, (), names(3, 6)), 1.0)
    assert (shelf.expire(2.0), shelf.held) == (set(names(3, 6)), "")


def test_held_ones_go_when_somebody_says_that_they_were_meant() -> None:
    shelf = settling(*numbered(10))
    shelf.apply(Batch(2, (), names(0, 5)), 0.0)
    assert shelf.meant(names(0, 4)) == set(names(0, 4))
    assert shelf.held
    assert shelf.meant(("p/4", "p/9")) == {"p/4"}  # p/9 is listed: no word about an earlier version takes it away
    assert (shelf.held, len(shelf.items)) == ("", 5)


def test_others_may_believe_a_deletion_early_and_hold_it_late() -> None:
    shelf = settling(*entries(a="1", b="1", c="1"))
    shelf.settle = 10.0
    shelf.apply(Batch(2, (), ("p/a", "p/b")), 0.0)
    assert shelf.believed(("p/a", "p/c"), 1.0) == {"p/a"}
    assert shelf.unexplained == {"p/a", "p/b"}
    assert shelf.hold(("p/a", "p/b", "p/c")) == {"p/a"}
    assert (shelf.items.keys(), shelf.unlisted) == ({"p/a", "p/b", "p/c"}, {"p/a", "p/b"})
    assert (shelf.next_due(), "2 keys" in shelf.held) == (None, True)


def test_a_hold_of_who_sees_little_ends_by_the_word_of_who_sees_all() -> None:
    shelf = settling(*entries(a="1"))
    shelf.apply(Resync(2, ()), 1.0, "p/a")
    assert shelf.held
    assert shelf.expire(3 * WINDOW) == frozenset()
    assert shelf.believed(("p/a",), 3 * WINDOW) == {"p/a"}
    assert (shelf.items, shelf.held, shelf.unexplained) == ({}, "", {"p/a"})
    shelf.expire(4 * WINDOW + 1)
    assert shelf.unexplained == frozenset()


def test_what_had_just_left_comes_back_when_the_store_turns_out_to_be_in_doubt() -> None:
    shelf = settling(*entries(a="1", b="1", c="1"))
    shelf.apply(Batch(2, (), ("p/a", "p/b")), 0.0)
    shelf.expire(1.0)
    shelf.apply(Batch(3, (), ("p/c",)), 1.0)
    assert shelf.freeze("in doubt") == {"p/a", "p/b"}
    assert shelf.expire(2.0) == frozenset()
    assert shelf.unlisted == {"p/a", "p/b", "p/c"}


SETTLED = st.tuples(st.sampled_from("abcdefgh"), st.booleans(), st.floats(0.0, 40.0))


@given(st.lists(SETTLED, max_size=30))
def test_nothing_goes_without_a_deletion_and_no_wave_passes(steps: list[tuple[str, bool, float]]) -> None:
    shelf, now = settling(*entries(**dict.fromkeys("abcdefgh", "1"))), 0.0
    listed, gone = set("abcdefgh"), dict[str, float]()
    for name, put, wait in steps:
        now += wait
        shelf.expire(now)
        if put:
            shelf.apply(Batch(2, entries(**{name: "1"})), now)
            listed.add(name)
            gone.pop(name, None)
        elif name in listed:
            shelf.apply(Batch(2, (), (f"p/{name}",)), now)
            listed.discard(name)
            gone[name] = now
    shelf.expire(now + SETTLE)
    assert {f"p/{name}" for name in listed} <= shelf.items.keys()
    recent = {name for name, at in gone.items() if now - at <= WINDOW}
    if len(recent) > 3:
        assert {f"p/{name}" for name in recent} <= shelf.items.keys()


@given(st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from(["1", "2", "bad", None])), max_size=20))
def test_after_any_batches_each_key_has_its_last_good_value(writes: list[tuple[str, str | None]]) -> None:
    shelf: Shelf[bytes] = Shelf("p/", read, {})
    good: dict[str, bytes] = {}
    for version, (name, value) in enumerate(writes):
        key = "p/" + name
        if value is None:
            shelf.apply(Batch(version, (), (key,)), 0.0)
            good.pop(key, None)
            continue
        shelf.apply(Batch(version, entries(**{name: value})), 0.0)
        if value != "bad":
            good[key] = value.encode()
    assert shelf.items == good
