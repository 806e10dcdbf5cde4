"""What differs between two sequences, by identity."""

from hypothesis import given
from hypothesis import strategies as st

from policies.span import moved, span


class Thing:
    """Equal to every other, and not the same."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Thing)

    def __hash__(self) -> int:
        return 0


A, B, C, D = Thing(), Thing(), Thing(), Thing()
LISTS = st.lists(st.sampled_from((A, B, C, D)), unique_by=id)


def test_the_shortest_part_that_differs() -> None:
    assert span((A, B, C), (A, D, C)) == (1, 2, 2)
    assert span((A, B), (A, C, B)) == (1, 1, 2)
    assert span((A, B, C), (A, C)) == (1, 2, 1)
    assert span((), (A,)) == (0, 0, 1)
    assert span((A,), (A,)) == (1, 1, 1)


def test_what_is_equal_but_another_object_has_moved() -> None:
    assert moved((A, B), (A, C)) == ([B], [C])
    left, came = moved((A, B), (A, C))
    assert left[0] is B
    assert came[0] is C


@given(LISTS, LISTS)
def test_what_is_outside_the_span_is_the_same(before: list[Thing], after: list[Thing]) -> None:
    found = span(before, after)
    rebuilt = [*before[: found.start], *after[found.start : found.came], *before[found.left :]]
    assert list(map(id, rebuilt)) == list(map(id, after))
    left, came = moved(before, after)
    assert set(map(id, before)) - set(map(id, left)) == set(map(id, after)) - set(map(id, came))
    assert set(map(id, left)).isdisjoint(map(id, after))
