"""House rule 13: file 450 lines (350 is a warning), Python function 40, parameters 6, nesting 3.

Rust functions and parameters are clippy's (`meshd/proxy/clippy.toml`). A docstring does not count as length.
"""

import ast
from collections.abc import Iterator

from tests.repo.tree import Finding, Source, Tree

FILE, FILE_SOFT, FUNCTION, PARAMETERS, NESTING = 450, 350, 40, 6, 3
TAG = "budget"

Function = ast.FunctionDef | ast.AsyncFunctionDef
# `with` is not among them: it is a scope, not a decision.
BLOCKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.Try, ast.TryStar, ast.Match)


def file_budget(tree: Tree) -> Iterator[Finding]:
    for source in tree.sources:
        excused = any(f"{TAG}: " in line for line in source.lines[:20])
        if source.path.endswith((".py", ".rs")) and len(source.lines) > FILE and not excused:
            yield Finding("file-budget", source.path, 0, f"{len(source.lines)} lines, at most {FILE}: split it")


def long_files(tree: Tree) -> Iterator[str]:
    """Above the soft budget: worth a look, no finding."""
    for source in tree.sources:
        if source.path.endswith((".py", ".rs")) and FILE_SOFT < len(source.lines) <= FILE:
            yield f"{source.path}: {len(source.lines)} lines (soft budget {FILE_SOFT})"


def function_budget(tree: Tree) -> Iterator[Finding]:
    for source, function in functions(tree):
        length = (function.end_lineno or function.lineno) - function.lineno + 1 - _docstring(function)
        if length > FUNCTION and not source.excused(function.lineno, TAG):
            text = f"{function.name} has {length} lines, at most {FUNCTION}"
            yield Finding("function-budget", source.path, function.lineno, text)


def parameter_budget(tree: Tree) -> Iterator[Finding]:
    for source, function in functions(tree):
        if source.is_test:  # fixtures are parameters there
            continue
        spec = function.args
        names = [argument.arg for argument in (*spec.posonlyargs, *spec.args, *spec.kwonlyargs)]
        count = len([name for name in names if name not in ("self", "cls")])
        if count > PARAMETERS and not source.excused(function.lineno, TAG):
            text = f"{function.name} has {count} parameters, at most {PARAMETERS}"
            yield Finding("parameter-budget", source.path, function.lineno, text)


def nesting_budget(tree: Tree) -> Iterator[Finding]:
    for source, function in functions(tree):
        depth = max((_depth(node) for node in function.body), default=0)
        if depth > NESTING and not source.excused(function.lineno, TAG):
            text = f"{function.name} nests {depth} deep, at most {NESTING}"
            yield Finding("nesting-budget", source.path, function.lineno, text)


def functions(tree: Tree) -> Iterator[tuple[Source, Function]]:
    for source in tree.named(".py"):
        for node in ast.walk(source.module):
            if isinstance(node, Function):
                yield source, node


def _docstring(function: Function) -> int:
    if ast.get_docstring(function, clean=False) is None:
        return 0
    text = function.body[0]
    return (text.end_lineno or text.lineno) - text.lineno + 1


def _depth(node: ast.AST) -> int:
    """Blocks inside one another; `elif` is no further level, an inner function starts anew."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return 0
    own = int(isinstance(node, BLOCKS))
    elif_ = _elif(node)
    below = [_depth(child) - int(child is elif_) for child in ast.iter_child_nodes(node)]
    return own + max(below, default=0)


def _elif(node: ast.AST) -> ast.AST | None:
    if isinstance(node, ast.If) and len(node.orelse) == 1 and isinstance(node.orelse[0], ast.If):
        return node.orelse[0]
    return None
