"""House rule 12: every ban, ignore and allow-list entry carries its reason beside it."""

import re
from collections.abc import Iterator

from tests.repo.tree import Finding, Source, Tree

PYTHON = re.compile(
    r"#\s*(noqa(?::\s*[A-Z]+[0-9]+(?:,\s*[A-Z]+[0-9]+)*)?|type:\s*ignore(?:\[[^]]*\])?|pragma: no cover)"
)
RUST = re.compile(r"#!?\[(?:cfg_attr\([^,]*,\s*)?(allow|expect)\(")
TOML = {
    "pyproject.toml": re.compile(
        r"""^\s*("[^"]+"\s*=\s*\["[A-Z]+[0-9]|"(ignore|default):|"[\w.]+ -> [\w.]+"|ignore_errors|disable_error_code)"""
    ),
    "Cargo.toml": re.compile(r"""=\s*("allow"|\{\s*level\s*=\s*"allow")"""),
    "clippy.toml": re.compile(r"^allow-"),
}
ENOUGH = 10  # characters: less is no reason


def reason_missing(tree: Tree) -> Iterator[Finding]:
    for source in tree.sources:
        if source.path.endswith(".py"):
            yield from _python(source)
        elif source.path.endswith(".rs"):
            yield from _rust(source)
        for name, pattern in TOML.items():
            if source.path.split("/")[-1] == name:
                yield from _toml(source, pattern)


def _python(source: Source) -> Iterator[Finding]:
    for number, comment in source.comments.items():
        found = PYTHON.search(comment)
        if found is None:
            continue
        said = comment.replace(found[0], "").strip(" #-:,")
        above = source.comments.get(number - 1, "") if source.lines[number - 2].strip().startswith("#") else ""
        if len(said) < ENOUGH and len(above.strip("# ")) < ENOUGH:
            yield Finding("reason-missing", source.path, number, f"{found[1]} without a reason beside it")


def _rust(source: Source) -> Iterator[Finding]:
    for number, line in enumerate(source.lines, 1):
        if (found := RUST.search(line)) is None:
            continue
        attribute = " ".join(source.lines[number - 1 : number + 6]).partition("]")[0]
        above = source.lines[number - 2].strip() if number > 1 else ""
        if "reason" not in attribute and "//" not in line and not above.startswith("//"):
            yield Finding("reason-missing", source.path, number, f"{found[1]} without a reason beside it")


def _toml(source: Source, pattern: re.Pattern[str]) -> Iterator[Finding]:
    """A comment on the line, or above the run of entries that it stands in."""
    for number, line in enumerate(source.lines, 1):
        if pattern.search(line) is None or "#" in line.split('"')[-1]:
            continue
        above = number - 2
        while above >= 0 and pattern.search(source.lines[above]):
            above -= 1
        if not source.lines[above].lstrip().startswith("#"):
            yield Finding("reason-missing", source.path, number, f"no reason beside {line.strip()[:60]}")
