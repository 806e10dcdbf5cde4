"""`meshctl explain`: what would happen to a request, decided by the proxy's own code."""

from collections.abc import Callable

import click

from meshd.cli.output import OUTPUT, emit, rows
from meshd.cli.target import Target
from policies.compiled import ExplainRequest, Explanation


@click.command()
@click.option("--from", "source", required=True, help="calling service")
@click.option("--to", "destination", required=True, help="service called")
@click.option("--path", default="/", show_default=True)
@click.option("--method", default="GET", show_default=True)
@click.option("-H", "--header", "headers", multiple=True, metavar="'NAME: VALUE'")
@OUTPUT
@click.pass_obj
def explain(  # budget: click hands over one parameter for each option
    target: Callable[[], Target],
    source: str,
    destination: str,
    path: str,
    method: str,
    headers: tuple[str, ...],
    output: str,
) -> None:
    """Which route, split, fault and intention decide about a request, each with the document that says so.

    \b
    Example:
      meshctl explain --from web --to api --path /admin --method POST -H 'x-user: ada'

    Exits 1 unless the verdict is allow.
    """
    request = ExplainRequest(
        source=source, destination=destination, path=path, method=method, headers=tuple(map(header, headers))
    )
    value = target().send("/v1/mesh/explain", request, Explanation)
    emit(value, output, lambda: show(value, f"{source} -> {destination}  {method} {path}"))
    if value.verdict != "allow":
        raise click.exceptions.Exit(1)


def header(text: str) -> tuple[str, str]:
    name, colon, value = text.partition(":")
    if not colon or not name.strip():
        raise click.UsageError(f"-H {text!r}: write 'NAME: VALUE'")
    return name.strip().lower(), value.strip()


def show(value: Explanation, request: str) -> None:
    click.echo(f"{request}: {value.verdict}")
    rows(
        ("STAGE", "VERDICT", "ORIGIN", "DETAIL"),
        [(d.stage, d.verdict, d.origin, d.detail) for d in value.decisions],
        empty="no decision",
    )
