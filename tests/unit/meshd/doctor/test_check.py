from meshd.doctor.check import UNREACHABLE, exit_code, fail, ok, warn


def test_only_a_failure_is_one() -> None:
    assert exit_code([]) == 0
    assert exit_code([ok("disk", "much"), warn("keys", "odd", "delete it")]) == 0
    assert exit_code([ok("disk", "much"), fail("right read policy/", "missing", "grant it")]) == 1


def test_a_registry_that_nobody_reaches_has_its_own_code() -> None:
    assert exit_code([fail("disk", "full", "make room"), fail(UNREACHABLE, "none answers", "")]) == 75
