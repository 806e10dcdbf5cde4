import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry import brake
from registry.model import InstanceKey


def missing(*places: str, since: float = 0.0) -> dict[InstanceKey, float]:
    return {InstanceKey("web", place[0], place): since for place in places}


@pytest.mark.parametrize(
    ("places", "total", "held"),
    [
        (("a1", "a2", "b1"), 5, True),
        (("a1", "a2", "b1"), 6, False),  # just half
        (("a1", "b1"), 2, False),  # fewer than three instances
        (("a1", "a2", "a3"), 3, False),  # one host: that host died
        (("a1", "b1", "c1"), 3, True),
    ],
)
def test_a_wave_is_three_on_two_hosts_and_more_than_half(places: tuple[str, ...], total: int, held: bool) -> None:
    gone = missing(*places)
    assert brake.braked(total, gone) == (frozenset(gone) if held else frozenset())


def test_those_that_went_long_before_are_not_part_of_the_wave() -> None:
    early, late = missing("a1", since=0.0), missing("b1", "c1", since=61.0)
    assert brake.braked(3, early | late) == frozenset()
    assert brake.braked(3, early | missing("b1", "c1", since=60.0)) == frozenset(early | late)


def test_one_that_went_long_after_a_wave_does_not_lengthen_it() -> None:
    wave, straggler = missing("a1", "b1", "c1", since=0.0), missing("d1", since=500.0)
    assert brake.braked(4, wave | straggler) == frozenset(wave)


@given(st.dictionaries(st.sampled_from("abcdefgh"), st.floats(0, 200), max_size=8), st.floats(0, 200))
def test_only_missing_ones_are_held_and_fewer_when_more_may_go(gone: dict[str, float], percent: float) -> None:
    wave = {InstanceKey("web", place, place): since for place, since in gone.items()}
    held = brake.braked(8, wave, brake.Limits(percent=percent))
    assert held <= wave.keys()
    assert brake.braked(8, wave, brake.Limits(percent=percent + 10)) <= held


@pytest.mark.parametrize(
    ("before", "gone", "held"),
    [(4, 4, True), (3, 3, False), (100, 20, False), (100, 21, True), (10, 4, True), (0, 0, False)],
)
def test_documents_are_held_above_three_and_a_fifth(before: int, gone: int, held: bool) -> None:
    assert brake.documents_held(before, gone) is held


def test_a_shorter_window_makes_two_small_waves_of_one() -> None:
    gone = {InstanceKey("web", node, node): since for node, since in (("a", 0.0), ("b", 5.0), ("c", 30.0))}
    assert brake.braked(4, gone) == gone.keys()
    assert brake.braked(4, gone, brake.Limits(window=10.0)) == frozenset()
