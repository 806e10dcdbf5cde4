"""`meshctl ca`: the authority of the mesh."""

import time
from pathlib import Path

import click

from meshd.cli.output import OUTPUT, emit, note


@click.group()
def ca() -> None:
    """The authority that gives hosts and instances their certificates."""


@ca.command()
@click.option("--data-dir", required=True, type=click.Path(file_okay=False, path_type=Path), help="DataDir of the host")
@click.option("--node", required=True, help="name of this first host")
@click.option("--trust-domain", default="mesh.local", show_default=True, help="fixed for the life of the mesh")
@click.option(
    "--service", "services", multiple=True, default=("*",), help="service that this host may run [default: *]"
)
@OUTPUT
def init(data_dir: Path, node: str, trust_domain: str, services: tuple[str, ...], output: str) -> None:
    """Make root, issuer and this host's own certificates, without any registry. Run once, on the first host.

    \b
    Example:
      meshctl ca init --data-dir /var/lib/meshd --node a
    """
    # here, so that the other commands do not pay for importing cryptography
    from registry.ca.init import First
    from registry.ca.init import init as make_authority
    from registry.errors import RegistryError

    try:
        made = make_authority(data_dir, First(node, trust_domain, services=services), time.time())
    except RegistryError as error:
        raise click.ClickException(str(error)) from error
    answer = {"trust_domain": trust_domain, "root_hash": made.root_hash, "data_dir": str(data_dir)}
    emit(answer, output, lambda: show(answer))


def show(answer: dict[str, str]) -> None:
    click.echo(f"trust domain  {answer['trust_domain']}")
    click.echo(f"root hash     {answer['root_hash']}")
    note(
        "next: start meshd with Roles: [registry, ca]; hosts join with `meshctl token create --node NAME` and this hash"
    )
