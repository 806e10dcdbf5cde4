"""`meshctl cert`: the certificates that this host holds, and revocation."""

from collections.abc import Callable

import click

from meshd.admin.shapes import CertRow
from meshd.cli.output import OUTPUT, emit, rows
from meshd.cli.target import Target


@click.group()
def cert() -> None:
    """Certificates of this host and its instances."""


@cert.command("list")
@OUTPUT
@click.pass_obj
def list_(target: Callable[[], Target], output: str) -> None:
    """Identity, validity and renewal time of every certificate held here."""
    value = target().read("/v1/mesh/certs", list[CertRow])
    emit(
        value,
        output,
        lambda: rows(
            ("NAME", "IDENTITY", "SERIAL", "NOT AFTER", "RENEWS"),
            [(c.name, c.spiffe, c.serial[:16], c.not_after, c.renew_at) for c in value],
            empty="no certificates yet",
        ),
    )


@cert.command()
@click.argument("what", metavar="IDENTITY|SERIAL")
@click.option("--reason", required=True, help="shown to whoever asks why")
@click.pass_obj
def revoke(target: Callable[[], Target], what: str, reason: str) -> None:
    """Refuse an identity (spiffe://...) or one certificate (serial, hex) from now on, also on live connections.

    \b
    Example:
      meshctl cert revoke spiffe://mesh.local/svc/api/n/b/i/api-1 --reason "host b stolen"
    """
    kind = "identity" if what.startswith("spiffe://") else "serial"
    target().send("/v1/mesh/revocations", {kind: what, "reason": reason}, dict[str, int])
    click.echo(f"revoked {kind} {what}")
