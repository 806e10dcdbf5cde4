"""`meshctl services` and `meshctl service NAME`."""

from collections.abc import Callable

import click

from meshd.admin.shapes import ServiceRow, ServiceView
from meshd.cli.output import OUTPUT, emit, rows
from meshd.cli.target import Target

WIDEST = 120  # characters of a check's output: what it says stands after the URL that it asked


@click.command()
@OUTPUT
@click.pass_obj
def services(target: Callable[[], Target], output: str) -> None:
    """All services and the state of their instances as this host sees them."""
    value = target().read("/v1/mesh/services", list[ServiceRow])
    header = ("SERVICE", "PROTOCOL", "PASSING", "WARNING", "CRITICAL", "SUSPECT", "DRAINING", "EJECTED", "DAMPED")
    emit(
        value,
        output,
        lambda: rows(
            header,
            [
                (s.name, s.protocol, s.passing, s.warning, s.critical, s.suspect, s.draining, s.ejected, s.damped)
                for s in value
            ],
            empty="no services registered",
        ),
    )


@click.command()
@click.argument("name")
@OUTPUT
@click.pass_obj
def service(target: Callable[[], Target], name: str, output: str) -> None:
    """One service: endpoints, routes, intentions and every effective setting with who set it."""
    value = target().read(f"/v1/mesh/services/{name}", ServiceView)
    emit(value, output, lambda: show(value))


def show(value: ServiceView) -> None:
    click.echo(f"service {value.name}  protocol {value.protocol}")
    click.echo()
    rows(
        ("ENDPOINT", "STATE", "INBOUND", "APP", "SUBSETS", "EWMA", "WHY NOT"),
        [
            (
                e.name,
                ", ".join(filter(None, (e.state, e.proof, "ejected" if e.ejected else ""))),
                e.inbound or "plaintext",
                e.address,
                ",".join(e.subsets),
                f"{e.ewma_ms:.1f}ms" if e.ewma_ms else "",
                e.output.splitlines()[0][:WIDEST] if e.output else "",
            )
            for e in value.endpoints
        ],
        empty="no endpoints",
    )
    sections = (
        (("ROUTE", "ACTION", "HITS", "ORIGIN"), [(r.match, r.action, r.hits, r.origin) for r in value.routes]),
        (("FAULT", "ACTION", "HITS", "ORIGIN"), [(r.match, r.action, r.hits, r.origin) for r in value.faults]),
        (("SOURCE", "ACTION", "ORIGIN"), [(i.source, i.action, i.origin) for i in value.intentions]),
        (("SETTING", "VALUE", "ORIGIN"), [(s.name, s.value, s.origin) for s in value.settings]),
    )
    for header, body in sections:
        if body:
            click.echo()
            rows(header, body)
