"""`meshctl status`: is this host, its registry and the mesh well?"""

from collections.abc import Callable

import click

from meshd.admin.shapes import ProblemRow, RegistryState, Status
from meshd.cli.output import OUTPUT, emit, rows
from meshd.cli.target import Target


@click.command()
@OUTPUT
@click.pass_obj
def status(target: Callable[[], Target], output: str) -> None:
    """This host, its registry, the joined hosts, and every document that is not in force.

    Exits 1 when the host is not ready or a document is refused.
    """
    value = target().read("/v1/mesh/status", Status)
    emit(value, output, lambda: show(value))
    if not value.ready or any(problem.refused for problem in value.problems):
        raise click.exceptions.Exit(1)


def behind(registry: RegistryState) -> str:
    """How old the answers of one of several servers may be."""
    if not registry.led:
        return "  NO LEADER: reads may be old, writes fail"
    return f"  last contact with its leader {registry.last_contact:.1f}s ago" if registry.last_contact >= 0 else ""


def show(value: Status) -> None:
    ready = "ready" if value.ready else "NOT READY: " + ", ".join(value.not_ready)
    click.echo(f"host {value.node}  {ready}  meshd {value.version}  trust domain {value.trust_domain}")
    registry = value.registry
    reach = "reachable" if registry.reachable else "NOT REACHABLE, serving last known good"
    click.echo(
        f"registry {registry.kind}  {reach}  index {registry.index}  last heard {registry.last_event_age:.1f}s ago"
        + behind(registry)
    )
    proxy = value.proxy
    if proxy.connected:
        how = "re-attached" if proxy.reattached else "attached"
        click.echo(
            f"proxy {proxy.version}  pid {proxy.pid}  generation {proxy.generation}  update {proxy.update}  {how}"
        )
    else:
        click.echo("proxy NOT CONNECTED")
    click.echo(f"mesh: {value.services} services, {value.endpoints} endpoints, {value.documents} documents")
    click.echo()
    rows(
        ("HOST", "ADDRESS", "LEASE", "VERSION", "ROLES", "REJECTED"),
        [
            (n.name, n.address, "live" if n.alive else "GONE", n.version, ",".join(n.roles), ",".join(n.rejected))
            for n in value.nodes
        ],
        empty="no joined hosts",
    )
    for warning in value.warnings:
        click.echo(f"warning: {warning}")
    if value.problems:
        click.echo()
        for problem in value.problems:
            click.echo(problem_line(problem))


def problem_line(problem: ProblemRow) -> str:
    word = "REFUSED" if problem.refused else "warning"
    place = f" line {problem.line}" if problem.line else ""
    path = f" at {problem.path}" if problem.path else ""
    hint = f"; {problem.hint}" if problem.hint else ""
    return f"{problem.document}{place}{path}: {word}: {problem.reason}{hint}"
