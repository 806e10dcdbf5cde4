"""Every way in which a store may turn out to be another one."""

import pytest

from registry.store_id import WHY, Verdict, base, following, judge, rank


@pytest.mark.parametrize(
    ("pinned", "seen", "verdict"),
    [
        ("", "", "first"),
        ("", "one", "first"),
        ("one", "one", "same"),
        ("one.2", "one.2", "same"),
        ("one", "one.1", "adopted"),
        ("one.9", "one.10", "adopted"),
        ("one", "", "absent"),
        ("one", "two", "other"),
        ("one.1", "two.2", "other"),
        ("one.2", "one.1", "older"),
        ("one.1", "one", "older"),
        ("one.1", "one.x", "older"),
        ("one", "one.99999999999999999999", "same"),
    ],
)
def test_each_verdict(pinned: str, seen: str, verdict: Verdict) -> None:
    assert judge(pinned, seen) == verdict


def test_what_follows_is_an_adoption() -> None:
    assert following("one") == "one.1"
    assert following("one.1") == "one.2"
    assert base(following("one")) == "one"
    assert judge("one.7", following("one.7")) == "adopted"


def test_every_doubt_has_words() -> None:
    assert set(WHY) == {"absent", "other", "older"}


def test_ids_of_one_store_are_ranked_and_anothers_come_last() -> None:
    assert [rank(one, "one") for one in ("one", "one.3", "two.9", "")] == [0, 3, -1, -1]
