"""`meshctl apply`, `get`, `delete`: policy documents."""

import sys
from collections.abc import Callable
from pathlib import Path

import click
import msgspec

from meshd.admin.shapes import ApplyResult, DocumentRow
from meshd.cli.output import OUTPUT, emit, note, rows
from meshd.cli.status import problem_line
from meshd.cli.target import Target
from meshd.cli.waiting import wait_in_force

UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0}


class Seconds(click.ParamType[float]):
    """`10s`, `500ms`, `2m` or plain seconds."""

    name = "duration"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        text = str(value)
        for unit in ("ms", "s", "m"):
            if text.endswith(unit):
                text, factor = text.removesuffix(unit), UNITS[unit]
                break
        else:
            factor = 1.0
        try:
            return float(text) * factor
        except ValueError:
            self.fail(f"{value!r} is no duration; write 10s, 500ms or 2m", param, ctx)


@click.command()
@click.option("-f", "--file", "files", multiple=True, required=True, metavar="FILE", help="YAML or JSON; - for stdin")
@click.option("--dry-run", is_flag=True, help="validate only")
@click.option(
    "--wait", type=Seconds(), is_flag=False, flag_value="10s", metavar="[=10s]", help="until every host enforces it"
)
@OUTPUT
@click.pass_obj
def apply(target: Callable[[], Target], files: tuple[str, ...], dry_run: bool, wait: float | None, output: str) -> None:
    """Validate documents, write them by compare-and-set, and wait until they are in force.

    \b
    Examples:
      meshctl apply -f api-intentions.yaml --wait
      meshctl apply -f web.yaml -f api.yaml --dry-run
      cat split.json | meshctl apply -f - --wait=30s

    Nothing is written when one of the documents is refused. Exit 1: refused, or not in force in time
    (the hosts that did not answer, or rejected it, are named).
    """
    text = b"\n---\n".join(read(name) for name in files)
    api = target()
    data, _ = api.call("POST", "/v1/mesh/apply", query={"dry_run": 1} if dry_run else None, body=text)
    result = msgspec.json.decode(data, type=ApplyResult)
    late = wait_in_force(api, result, wait) if wait and not dry_run else ()
    emit(result, output, lambda: show(result, dry_run))
    for warning in result.warnings:
        note(problem_line(warning))
    if late:
        for line in late:
            note(f"not in force: {line}")
        raise click.exceptions.Exit(1)
    if wait and not dry_run and output == "table":
        click.echo(f"in force on {len(result.nodes)} of {len(result.nodes)} hosts: {', '.join(result.nodes)}")


def read(name: str) -> bytes:
    try:
        return sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
    except OSError as error:
        raise click.UsageError(f"{name}: {error.strerror}") from error


def show(result: ApplyResult, dry_run: bool) -> None:
    for one in result.applied:
        word = "valid" if dry_run else "written" if one.changed else "unchanged"
        version = "" if dry_run else f"  version {one.version}"
        click.echo(f"{one.kind}/{one.name}  {word}{version}")


@click.command()
@click.argument("document", required=False, metavar="[KIND/NAME]")
@OUTPUT
@click.pass_obj
def get(target: Callable[[], Target], document: str | None, output: str) -> None:
    """List all documents, or print one as it is stored.

    \b
    Examples:
      meshctl get
      meshctl get service-intentions/api
      meshctl get mesh/mesh
    """
    if document:
        click.echo(target().call("GET", document_path(document))[0].decode(), nl=False)
        return
    value = target().read("/v1/mesh/documents", list[DocumentRow])
    emit(
        value,
        output,
        lambda: rows(
            ("KIND", "NAME", "VERSION", "STATE", "DIGEST"),
            [(d.kind, d.name, d.version, d.state, d.digest[:12]) for d in value],
            empty="no documents: every kind is at its default (see `meshctl service NAME`)",
        ),
    )


@click.command()
@click.argument("documents", nargs=-1, required=True, metavar="KIND/NAME...")
@click.pass_obj
def delete(target: Callable[[], Target], documents: tuple[str, ...]) -> None:
    """Delete documents on purpose: their kind goes back to the default for that name.

    Many documents that vanish in any other way are held in force; this lets go of such, too.

    \b
    Examples:
      meshctl delete service-router/web
      meshctl delete service-router/web service-splitter/web service-resolver/web
    """
    for document in documents:
        document_path(document)
    target().send("/v1/mesh/delete", {"documents": documents}, dict[str, int])
    for document in documents:
        click.echo(f"{document}  deleted (back to the default)")


def document_path(document: str) -> str:
    kind, slash, name = document.partition("/")
    if not slash or not name or "/" in name:
        raise click.UsageError(f"{document!r}: write KIND/NAME, for example service-intentions/api")
    return f"/v1/mesh/documents/{kind}/{name}"
