"""`meshctl proxy`: what the local proxy holds and has counted."""

from collections.abc import Callable

import click

from meshd.cli.output import OUTPUT, emit, rows
from meshd.cli.target import Target
from policies.compiled import Config, Stats


@click.group()
def proxy() -> None:
    """The local proxy."""


@proxy.command()
@OUTPUT
@click.pass_obj
def config(target: Callable[[], Target], output: str) -> None:
    """The resources that the proxy holds, from its own mouth (keys as hashes); all fields with `-o json`."""
    value = target().read("/v1/mesh/proxy/config", Config)
    emit(
        value,
        output,
        lambda: rows(
            ("KIND", "NAME"),
            sorted((type(r).__name__.lower(), r.name) for r in value.resources),
            empty="the proxy holds nothing",
        ),
    )


@proxy.command()
@OUTPUT
@click.pass_obj
def stats(target: Callable[[], Target], output: str) -> None:
    """Requests and endpoints as the proxy has counted them since its start."""
    value = target().read("/v1/mesh/proxy/stats", Stats)
    emit(value, output, lambda: show(value))


def show(value: Stats) -> None:
    rows(
        ("REPORTER", "SOURCE", "DESTINATION", "METHOD", "CODE", "FLAGS", "COUNT"),
        [(r.reporter, r.source, r.destination, r.method, r.code, r.flags, r.count) for r in value.requests],
        empty="no requests yet",
    )
    click.echo()
    rows(
        ("ENDPOINT", "EJECTED", "SUSPECT", "INFLIGHT", "EWMA", "OK", "FAILED"),
        [
            (
                e.name,
                "yes" if e.ejected else "no",
                e.proof or "no",
                e.inflight,
                f"{e.ewma_ms:.1f}ms",
                e.successes,
                e.failures,
            )
            for e in value.endpoints
        ],
        empty="no endpoints used yet",
    )
