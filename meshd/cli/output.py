"""Printing: `-o table` for people, `-o json` and `-o yaml` for programs. No meaning by colour alone."""

import sys
from collections.abc import Callable, Sequence
from typing import Any

import click
import msgspec

OUTPUT = click.option(
    "-o", "--output", type=click.Choice(["table", "json", "yaml"]), default="table", show_default=True, help="format"
)


def emit(value: Any, output: str, table: Callable[[], None]) -> None:
    """Print `value` as asked; `table` prints it for people."""
    if output == "json":
        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))
    elif output == "yaml":
        import yaml

        click.echo(yaml.safe_dump(msgspec.to_builtins(value), sort_keys=False), nl=False)
    else:
        table()


def rows(header: Sequence[str], body: Sequence[Sequence[object]], *, empty: str = "none") -> None:
    """Left-aligned columns, two spaces apart: greppable, and the same in a terminal and in a pipe."""
    if not body:
        click.echo(empty)
        return
    cells = [[str(cell) if str(cell) else "-" for cell in row] for row in body]
    widths = [max(len(row[i]) for row in [list(header), *cells]) for i in range(len(header))]
    for row in [list(header), *cells]:
        click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def note(text: str) -> None:
    """What is not data: progress, warnings, next steps. To stderr."""
    click.echo(text, err=True)


def interactive() -> bool:
    return sys.stderr.isatty()
