"""House rules 3 and 6 in product code: no task without an owner, no state in modules."""

import ast
from collections.abc import Iterator

from tests.repo.tree import Finding, Source, Tree

TASKS = "meshd/tasks.py"
# asyncio.create_task and friends are ruff's (TID251); methods named so slip through there.
CREATORS = frozenset({"create_task", "ensure_future", "run_coroutine_threadsafe", "TaskGroup"})
CONTAINERS = frozenset(
    {"list", "dict", "set", "bytearray", "defaultdict", "deque", "OrderedDict", "WeakValueDictionary"}
)
STATEFUL = frozenset({"count", "Lock", "RLock", "Event", "Semaphore", "Queue", "Condition", "local", "ContextVar"})
MUTATORS = frozenset(
    {
        "append",
        "extend",
        "insert",
        "pop",
        "remove",
        "clear",
        "add",
        "discard",
        "update",
        "setdefault",
        "popitem",
        "sort",
    }
)


def product(tree: Tree) -> Iterator[Source]:
    return (source for source in tree.named(".py") if source.product)


def task_creation(tree: Tree) -> Iterator[Finding]:
    for source in product(tree):
        if source.path == TASKS:
            continue
        for node in ast.walk(source.module):
            name = _called(node)
            if name in CREATORS:
                text = f"{name} outside {TASKS}: every task has an owner, a name and a stop deadline"
                yield Finding("task-creation", source.path, getattr(node, "lineno", 0), text)


def module_state(tree: Tree) -> Iterator[Finding]:
    """Containers at module level must be constants: upper case and never changed in their module; no `global`."""
    for source in product(tree):
        changed = _changed(source.module)
        assigned = [(*pair, statement.lineno) for statement in source.module.body for pair in _assigned(statement)]
        for name, value, line in assigned:
            if (why := _stateful(value)) and not _constant(name, why, changed):
                yield Finding("module-state", source.path, line, f"{name} is {why} at module level")
        for node in ast.walk(source.module):
            if isinstance(node, ast.Global):
                yield Finding("module-state", source.path, node.lineno, f"global {', '.join(node.names)}")


def _called(node: ast.AST) -> str:
    if not isinstance(node, ast.Call):
        return ""
    return node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")


def _assigned(statement: ast.stmt) -> Iterator[tuple[str, ast.expr]]:
    if isinstance(statement, ast.Assign):
        yield from ((target.id, statement.value) for target in statement.targets if isinstance(target, ast.Name))
    elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name) and statement.value:
        yield statement.target.id, statement.value


def _stateful(value: ast.expr) -> str:
    if isinstance(value, ast.List | ast.Dict | ast.Set | ast.ListComp | ast.DictComp | ast.SetComp):
        return "a mutable container"
    name = _called(value)
    if name in CONTAINERS:
        return "a mutable container"
    return f"a {name}" if name in STATEFUL else ""


def _constant(name: str, why: str, changed: frozenset[str]) -> bool:
    return why == "a mutable container" and (name.isupper() or name == "__all__") and name not in changed


def _changed(module: ast.Module) -> frozenset[str]:
    """Names whose contents are written somewhere in the module."""
    found = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Store | ast.Del):
            found.add(getattr(node.value, "id", ""))
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in MUTATORS:
            found.add(getattr(node.func.value, "id", ""))
        elif isinstance(node, ast.AugAssign):
            found.add(getattr(node.target, "id", ""))
    return frozenset(found)
