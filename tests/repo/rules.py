"""All rules, by name."""

from collections.abc import Callable, Iterator, Mapping

from tests.repo import budgets, layout_rules, python_rules, reasons, rust_rules, testing_rules
from tests.repo.tree import Finding, Tree

RULES: Mapping[str, Callable[[Tree], Iterator[Finding]]] = {
    "file-budget": budgets.file_budget,
    "function-budget": budgets.function_budget,
    "parameter-budget": budgets.parameter_budget,
    "nesting-budget": budgets.nesting_budget,
    "task-creation": python_rules.task_creation,
    "module-state": python_rules.module_state,
    "vague-name": layout_rules.vague_name,
    "twin-test": layout_rules.twin_test,
    "machine-path": layout_rules.machine_path,
    "pinned-without-address": layout_rules.pinned_without_address,
    "reason-missing": reasons.reason_missing,
    "stage-order": rust_rules.stage_order,
    "unsafe-code": rust_rules.unsafe_code,
    "test-cannot-fail": testing_rules.test_cannot_fail,
    "fixed-sleep": testing_rules.fixed_sleep,
}


def findings(tree: Tree) -> list[Finding]:
    return sorted(finding for rule in RULES.values() for finding in rule(tree))
