from registry import keys
from registry.change import Change, document_names, moved_on


def test_a_change_is_true_when_anything_moved() -> None:
    assert not Change()
    assert all((Change(services=frozenset({"api"})), Change(documents=frozenset({("mesh", "mesh")})),
                Change(trust=True), Change(store=True)))  # fmt: skip


def test_two_changes_are_one_that_says_both() -> None:
    both = Change(services=frozenset({"api"}), trust=True) | Change(services=frozenset({"web"}), store=True)
    assert both == Change(services=frozenset({"api", "web"}), trust=True, store=True)


def test_what_moved_on_shelves_by_their_prefix() -> None:
    policy, mesh = keys.policy("service-router", "web"), keys.policy("mesh", "mesh")
    moved = moved_on({keys.POLICY: frozenset({policy}), keys.CONFIG: frozenset({mesh}), keys.NODES: frozenset({"x"})})
    assert moved == Change(documents=frozenset({("service-router", "web"), ("mesh", "mesh")}))
    assert moved_on({keys.CA_ROOTS: frozenset({"r"})}) == moved_on({keys.REVOCATIONS: frozenset({"r"})})
    assert moved_on({keys.REVOCATIONS: frozenset({"r"})}) == Change(trust=True)


def test_a_key_that_names_no_document_is_none() -> None:
    assert document_names(frozenset({keys.POLICY + "service-router", keys.policy("fault", "slow")})) == {
        ("fault", "slow")
    }
