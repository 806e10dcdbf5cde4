"""What a watch makes of answers."""

from registry.backends.consul_view import View
from registry.store import Alive, Batch, Entry, Resync


def entry(key: str, version: int, created: int = 1) -> Entry:
    return Entry(key=key, value=b"", version=version, created=created)


A, B = entry("a", 5), entry("b", 7)


def test_the_first_answer_is_everything() -> None:
    view = View(None)
    assert view.take(7, [A, B], lost=False) == Resync(7, (A, B))
    assert view.ask == 7


def test_changes_are_what_differs_in_the_order_of_their_versions() -> None:
    view = View(None)
    view.take(7, [A, B], lost=False)
    newer, other = entry("a", 9), entry("c", 8)
    assert view.take(9, [newer, other], lost=False) == Batch(9, (other, newer), ("b",))
    assert view.take(9, [newer, other], lost=False) == Alive(9)
    assert view.take(11, [newer, other], lost=False) == Alive(11)  # a write elsewhere


def test_a_key_that_was_deleted_and_written_again_is_put_again() -> None:
    view = View(None)
    view.take(7, [A], lost=False)
    again = entry("a", 9, created=9)
    assert view.take(9, [again], lost=False) == Batch(9, (again,), ())


def test_an_index_that_goes_backwards_is_asked_again_from_0_and_starts_over() -> None:
    view = View(None)
    view.take(100, [A, B], lost=False)
    assert view.take(3, [], lost=False) is None
    assert view.ask == 0
    assert view.take(3, [A], lost=False) == Resync(3, (A,))


def test_after_a_loss_what_changed_starts_over_and_what_did_not_is_a_sign_of_life() -> None:
    view = View(None)
    view.take(7, [A, B], lost=False)
    view.forget_index()
    assert view.ask == 0
    assert view.take(7, [A, B], lost=True) == Alive(7)
    view.forget_index()
    assert view.take(9, [A], lost=True) == Resync(9, (A,))
    view.forget_index()
    assert view.take(2, [], lost=True) == Resync(2, ())


def test_a_resumed_watch_starts_over_unless_nothing_happened() -> None:
    assert View(5).take(5, [A], lost=False) == Alive(5), "who resumes has lost contact: it is there again"
    assert View(5).take(5, [A], lost=True) == Alive(5)
    assert View(5).take(7, [A, B], lost=False) == Resync(7, (A, B))
    assert View(9).take(5, [A], lost=False) == Resync(5, (A,))


def test_a_resumed_watch_goes_on_with_changes() -> None:
    view = View(5)
    view.take(5, [A], lost=False)
    assert view.take(7, [A, B], lost=False) == Batch(7, (B,), ())


def test_a_change_that_did_not_move_the_index_is_not_trusted() -> None:
    view = View(None)
    view.take(7, [A, B], lost=False)
    assert view.take(7, [A], lost=False) == Resync(7, (A,))
