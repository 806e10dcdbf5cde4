"""`meshctl registry`: what to do before and after the store is wiped, restored or replaced."""

from collections.abc import Callable

import click

from meshd.admin.shapes import Adopted
from meshd.cli import registries
from meshd.cli.backup import backup, restore
from meshd.cli.output import OUTPUT, emit, note
from meshd.cli.target import Target


@click.group()
def registry() -> None:
    """The registry behind the mesh, and those beside it."""


for command in (registries.list_registries, registries.diff, registries.migrate):
    registry.add_command(command)


registry.add_command(backup)
registry.add_command(restore)


@registry.command()
@click.option("--yes", is_flag=True, help="do it: documents and instances that the store has lost go out of force")
@OUTPUT
@click.pass_obj
def adopt(target: Callable[[], Target], yes: bool, output: str) -> None:
    """Believe the store as it is now, on every host. Ends every hold and the brake.

    Ask the host with the role ca, as root; with Consul or etcd any host, with a token that may write store-id.

    Write back first what should stay: what the store does not list is let go of. `meshctl status` says what is held,
    `meshctl get` lists the documents (state held).

    \b
    Example:
      meshctl registry adopt --yes
    """
    if not yes:
        raise click.UsageError("documents and instances that the store has lost go out of force: say --yes")
    answer = target().send("/v1/mesh/registry/adopt", {}, Adopted)
    emit(answer, output, lambda: show(answer))


def show(answer: Adopted) -> None:
    click.echo(f"store {answer.store_id} adopted")
    for document in answer.documents:
        click.echo(f"let go: document {document}")
    for service, count in sorted(answer.braked.items()):
        click.echo(f"let go: {count} instances of {service}")
    if not (answer.documents or answer.braked):
        note("nothing was held on this host")
