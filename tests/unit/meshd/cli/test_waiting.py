from meshd.admin.shapes import Applied, ApplyResult
from meshd.cli.waiting import lateness, missing

RESULT = ApplyResult(
    applied=(Applied(kind="fault", name="slow", version=4, digest="aa", changed=True),), nodes=("a", "b", "c")
)


def report(digest: str) -> dict[str, object]:
    return {"documents": {"fault/slow": {"digest": digest, "version": 4}}}


def test_in_force_everywhere_is_no_line() -> None:
    assert missing(RESULT, {node: report("aa") for node in "abc"}) == ()


def test_silent_and_old_hosts_are_named() -> None:
    late = missing(RESULT, {"a": report("aa"), "b": report("old")})
    assert late == ("b: fault/slow not in force yet", "c: fault/slow silent (no report; is its lease gone?)")


def test_a_rejection_tells_the_reason() -> None:
    rejected = report("old") | {"rejected": {"fault/slow": {"digest": "aa", "problems": [{"reason": "bad regex"}]}}}
    assert lateness(rejected, "fault/slow", "aa") == "rejected: bad regex"


def test_an_older_rejection_does_not_count() -> None:
    rejected = report("aa") | {"rejected": {"fault/slow": {"digest": "older", "problems": []}}}
    assert lateness(rejected, "fault/slow", "aa") == ""


def test_a_host_that_does_not_follow_a_document_is_not_waited_for() -> None:
    applied = (Applied(kind="service-router", name="we*", version=4, digest="aa", changed=True),)
    result = ApplyResult(applied=applied, nodes=("a", "b", "c"))
    caller = {"interest": {"called": ["web"], "hosted": [], "all_policy": False}}
    other = {"interest": {"called": ["api"], "hosted": ["web"], "all_policy": False}}
    role = {"interest": {"called": [], "hosted": [], "all_policy": True}}
    late = missing(result, {"a": caller, "b": other, "c": role})
    assert late == ("a: service-router/we* not in force yet", "c: service-router/we* not in force yet")
    assert missing(result, {"a": {}, "b": other, "c": other}) == ("a: service-router/we* not in force yet",)
