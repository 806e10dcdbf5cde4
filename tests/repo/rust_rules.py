"""The proxy's direction of imports: a stage does not import a later one (`stack.rs` composes them)."""

import re
from collections.abc import Iterator

from tests.repo.tree import Finding, Tree

SRC = "meshd/proxy/src/"
STAGES = ("listener", "identity", "route", "authorize", "retry", "balance", "connect", "exchange")
UNSAFE = ("meshd/proxy/src/sys.rs",)
NAMED = re.compile(r"\bcrate::(\w+)")
GROUPED = re.compile(r"\bcrate::\{([^;]*)\}\s*;")


def stage_order(tree: Tree) -> Iterator[Finding]:
    for source in tree.named(".rs"):
        stage = source.path.removeprefix(SRC).removesuffix(".rs").split("/")[0]
        if not source.path.startswith(SRC) or stage not in STAGES:
            continue
        code = "\n".join(line.partition("//")[0] for line in source.lines)
        for name, at in imported(code):
            if name in STAGES and STAGES.index(name) > STAGES.index(stage):
                text = f"{stage} imports {name}, a later stage"
                yield Finding("stage-order", source.path, code.count("\n", 0, at) + 1, text)


def imported(code: str) -> Iterator[tuple[str, int]]:
    """Modules of the crate that the code names, and where."""
    yield from ((found[1], found.start()) for found in NAMED.finditer(code))
    for group in GROUPED.finditer(code):
        depth, word = 0, ""
        for character in group[1] + ",":
            depth += (character == "{") - (character == "}")
            if depth == 0 and character == ",":
                yield word.strip().split("::")[0], group.start()
                word = ""
            elif depth == 0:
                word += character


def unsafe_code(tree: Tree) -> Iterator[Finding]:
    """The one module that may hold unsafe code is the reviewed one."""
    for source in tree.named(".rs"):
        allowed = source.path in UNSAFE or not source.path.startswith(SRC)
        for number, line in enumerate(source.lines, 1):
            if (
                not allowed
                and re.search(r"allow\(unsafe_code", line)
                and not re.search(r"mod sys\b", "".join(source.lines[number : number + 2]))
            ):
                yield Finding("unsafe-code", source.path, number, f"unsafe code is allowed in {UNSAFE[0]} only")
