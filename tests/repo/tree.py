"""The files under examination: what git would commit, or all files of a copy without git."""

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

PRODUCT = ("registry", "policies", "meshd")
GENERATED = (".git", ".venv", ".cache", ".demo", "target", "build", "dist", "__pycache__")


@dataclass(frozen=True, order=True)
class Finding:
    """`rule: path:line: text`; line 0 is the whole file."""

    rule: str
    path: str
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.rule}: {self.path}:{self.line}: {self.text}"


@dataclass(frozen=True)
class Source:
    """One text file; `path` is relative to the tree's root, with slashes."""

    path: str
    text: str

    @cached_property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @cached_property
    def module(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def comments(self) -> dict[int, str]:
        """Python comments by line number."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @property
    def product(self) -> bool:
        return self.path.split("/")[0] in PRODUCT

    @property
    def is_test(self) -> bool:
        return self.path.startswith("tests/") and Path(self.path).name.startswith("test_")

    def excused(self, line: int, tag: str) -> bool:
        """Whether `tag: reason` stands in a comment on this line or the one above."""
        near = self.lines[max(0, line - 2) : line]
        return any(tag + ": " in text.partition("#")[2] + text.partition("//")[2] for text in near)


class Tree:
    """Reads on first use, once."""

    def __init__(self, root: Path) -> None:
        self.root = root

    @cached_property
    def paths(self) -> tuple[str, ...]:
        if (self.root / ".git").exists():
            command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
            listed = subprocess.run(command, cwd=self.root, capture_output=True, text=True, check=True).stdout
            return tuple(sorted(path for path in set(listed.split("\0")) if path and (self.root / path).is_file()))
        return tuple(sorted(self._walk(self.root)))

    def _walk(self, directory: Path) -> Iterator[str]:
        for entry in directory.iterdir():
            if entry.is_dir() and entry.name not in GENERATED:
                yield from self._walk(entry)
            elif entry.is_file():
                yield entry.relative_to(self.root).as_posix()

    @cached_property
    def sources(self) -> tuple[Source, ...]:
        """All files that are text."""
        found = []
        for path in self.paths:
            try:
                found.append(Source(path, (self.root / path).read_text(encoding="utf-8")))
            except UnicodeDecodeError:
                continue
        return tuple(found)

    def named(self, suffix: str) -> Iterator[Source]:
        return (source for source in self.sources if source.path.endswith(suffix))
