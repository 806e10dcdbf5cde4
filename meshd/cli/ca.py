"""`meshctl ca`: the authority of the mesh."""

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
    from registry.ca.init import init as make_authority

    try:
        made = make_authority(data_dir, node=node, trust_domain=trust_domain, services=services)
    except FileExistsError as error:
        raise click.ClickException(f"{error}: this mesh has its authority already; nothing was changed") from error
    answer = {"trust_domain": trust_domain, "root_hash": made.root_hash, "data_dir": str(data_dir)}
    emit(answer, output, lambda: show(answer))


def show(answer: dict[str, str]) -> None:
    click.echo(f"trust domain  {answer['trust_domain']}")
    click.echo(f"root hash     {answer['root_hash']}")
    note(
        "next: start meshd with Roles: [registry, ca]; hosts join with `meshctl token create --node NAME` and this hash"
    )
