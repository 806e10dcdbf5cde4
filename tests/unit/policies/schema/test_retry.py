"""Retry budgets."""

from policies.schema.retry import BUDGET, Budget
from policies.schema.shape import Reading
from policies.schema.yaml_text import read


def test_a_budget() -> None:
    state = Reading("kind", "name")
    root = read("percent: 12.5\nmin_per_second: 3")
    assert root is not None
    assert BUDGET(state, root, "") == Budget(percent=1250, min_per_second=3)
    assert state.problems == []
