"""House rule 11 for the tests themselves: none that cannot fail, no fixed sleep."""

import ast
import re
from collections.abc import Iterator

from tests.repo.budgets import Function
from tests.repo.tree import Finding, Source, Tree

# What can make a test fail, by name: calls that raise when something is not so.
FAILS = re.compile(r"raises|warns|fail|check|expect|verify|wait_for|assert")


def test_cannot_fail(tree: Tree) -> Iterator[Finding]:
    """A test asserts, or calls (through any helper of the tests) something that does."""
    helpers = [
        function for source in tree.named(".py") if source.path.startswith("tests/") for function in _functions(source)
    ]
    asserting = _asserting(helpers)
    for source, function in _tests(tree):
        if not _can_fail(function, asserting):
            yield Finding("test-cannot-fail", source.path, function.lineno, f"{function.name} asserts nothing")


def fixed_sleep(tree: Tree) -> Iterator[Finding]:
    """A wait of a fixed time in a test is too long on a quick machine and too short on a slow one."""
    for source, function in _tests(tree):
        lines = [node.lineno for node in ast.walk(function) if isinstance(node, ast.Call) and _sleeps(node)]
        for line in lines:
            if not source.excused(line, "sleep"):
                text = f"{function.name} sleeps: wait for what it waits for, or say why (# sleep: ...)"
                yield Finding("fixed-sleep", source.path, line, text)


def _functions(source: Source) -> Iterator[Function]:
    return (node for node in ast.walk(source.module) if isinstance(node, Function))


def _tests(tree: Tree) -> Iterator[tuple[Source, Function]]:
    for source in tree.named(".py"):
        if source.is_test:
            yield from ((source, function) for function in _functions(source) if function.name.startswith("test_"))


def _asserting(helpers: list[Function]) -> frozenset[str]:
    """Names of helpers that can fail, by themselves or through one another."""
    found: frozenset[str] = frozenset()
    while True:
        more = frozenset(function.name for function in helpers if _can_fail(function, found))
        if more == found:
            return found
        found = more


def _can_fail(function: Function, asserting: frozenset[str]) -> bool:
    for node in ast.walk(function):
        if isinstance(node, ast.Assert | ast.Raise):
            return True
        name = _called(node)
        if name and (FAILS.search(name) or name in asserting):
            return True
    return False


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _sleeps(call: ast.Call) -> bool:
    given = call.args[0] if call.args else None
    return _called(call) == "sleep" and not (isinstance(given, ast.Constant) and given.value == 0)
