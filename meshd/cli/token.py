"""`meshctl token`: one-time join tokens and operator tokens, signed by the authority."""

import os
from collections.abc import Callable
from pathlib import Path

import click

from meshd.admin.shapes import TokenAnswer, TokenRequest
from meshd.cli.documents import Seconds
from meshd.cli.output import OUTPUT, emit, note
from meshd.cli.target import Target


@click.group()
def token() -> None:
    """Tokens that let hosts join and operators write."""


@token.command()
@click.option("--node", default="", help="host that may join with it")
@click.option("--service", "services", multiple=True, help="service that the host may run (repeat; * for any)")
@click.option("--operator", default="", metavar="NAME", help="an operator's token instead: may write policy")
@click.option("--ttl", type=Seconds(), default="60m", show_default=True)
@click.option("--out", type=click.Path(dir_okay=False), help="write the token to this new file (0600), not to stdout")
@OUTPUT
@click.pass_obj
def create(  # budget: click hands over one parameter for each option
    target: Callable[[], Target],
    node: str,
    services: tuple[str, ...],
    operator: str,
    ttl: float,
    out: str | None,
    output: str,
) -> None:
    """Make a token. Ask the host with the ca role.

    \b
    Examples:
      meshctl token create --node b --service api --out /etc/meshd/join-token
      meshctl token create --operator ada --ttl 480m --out ~/.meshd-token
    """
    if bool(node) == bool(operator):
        raise click.UsageError("name either --node (a join token) or --operator")
    request = (
        TokenRequest(kind="join", node=node, services=services, ttl=ttl)
        if node
        else TokenRequest(kind="operator", name=operator, ttl=ttl)
    )
    if node and not services:
        note("note: without --service the host may join but run no service")
    answer = target().send("/v1/mesh/tokens", request, TokenAnswer)
    if out:
        write_secret(Path(out), answer.token)
    emit(
        {"expires": answer.expires, "root_hash": answer.root_hash} if out else answer, output, lambda: show(answer, out)
    )


def write_secret(path: Path, text: str) -> None:
    """A new file, 0600 from its first byte; an existing one is never overwritten."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise click.UsageError(f"{path} exists; remove it or choose another name") from error
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    with os.fdopen(handle, "w") as file:
        file.write(text + "\n")


def show(answer: TokenAnswer, out: str | None) -> None:
    click.echo(f"token      {out or answer.token}")
    click.echo(f"expires    {answer.expires}")
    click.echo(f"root hash  {answer.root_hash}")
