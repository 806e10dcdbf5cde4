"""Where things may live, and what no file may say."""

import ast
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath

from tests.repo.tree import Finding, Tree

VAGUE = frozenset({"utils", "util", "common", "helpers", "helper", "misc", "shared", "lib"})
COVERED = "tests/repo/covered.toml"
# Directories of whoever's machine; put together here so that this file does not find itself.
MACHINE = re.compile(
    "(?<![A-Za-z0-9_.$}-])/(" + "|".join(("work", "root", "home/[a-z]", "Users/[a-z]", "tmp/[a-z0-9]{2}")) + ")[/ \"'`]"
)


def vague_name(tree: Tree) -> Iterator[Finding]:
    for path in tree.paths:
        parts = PurePosixPath(path).with_suffix("").parts
        # lib.rs is Cargo's name for the crate's root
        if bad := [part for part in parts if part in VAGUE and not path.endswith("src/lib.rs")]:
            yield Finding("vague-name", path, 0, f"no {bad[0]}: name what it is about")


def twin_test(tree: Tree) -> Iterator[Finding]:
    """Every product file has tests/unit/<its path>/test_<its name>, or an entry of covered.toml that exists."""
    paths = frozenset(tree.paths)
    covered = covered_elsewhere(tree.root)
    for source in tree.named(".py"):
        if not source.product or source.path in covered or _empty(source.module):
            continue
        path = PurePosixPath(source.path)
        twin = f"tests/unit/{path.parent}/test_{path.name}"
        if twin not in paths:
            yield Finding("twin-test", source.path, 0, f"no {twin}, and no entry in {COVERED}")
    for file, suite in covered.items():
        if file not in paths:
            yield Finding("twin-test", COVERED, 0, f"{file} does not exist")
        elif not (tree.root / suite).exists():
            yield Finding("twin-test", COVERED, 0, f"{suite}, said to cover {file}, does not exist")


def covered_elsewhere(root: Path) -> Mapping[str, str]:
    """Product file -> suite that covers it."""
    file = root / COVERED
    entries = tomllib.loads(file.read_text())["covered"] if file.exists() else []
    return {path: entry["by"] for entry in entries for path in entry["files"]}


def machine_path(tree: Tree) -> Iterator[Finding]:
    for source in tree.sources:
        for number, line in enumerate(source.lines, 1):
            if (found := MACHINE.search(line)) and not source.path.startswith("meshd/proxy/Cargo.lock"):
                yield Finding("machine-path", source.path, number, f"names a directory of one machine: {found[0]}")


def pinned_without_address(tree: Tree) -> Iterator[Finding]:
    """Requirements are pinned by hash and name no index: any mirror can serve them."""
    for source in tree.sources:
        if not re.match(r"deploy/requirements.*\.txt\Z", source.path):
            continue
        for number, line in enumerate(source.lines, 1):
            if "://" in line:
                yield Finding("pinned-without-address", source.path, number, "an address")
            elif re.match(r"[A-Za-z0-9]", line) and ("==" not in line or not line.endswith("\\")):
                yield Finding("pinned-without-address", source.path, number, "not pinned by version and hash")


def _empty(module: ast.Module) -> bool:
    """Nothing but docstring, imports and __all__: nothing to test."""
    return all(
        isinstance(node, ast.Import | ast.ImportFrom | ast.Expr)
        or (isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "__all__")
        for node in module.body
    )
