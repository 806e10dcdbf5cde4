"""`meshctl registry backup` and `restore`: everything worth keeping of the registry, in one file."""

import asyncio
import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

import click

from meshd.cli.output import OUTPUT, emit, note, rows
from meshd.cli.stores import CONFIG, opened
from meshd.cli.target import Target

if TYPE_CHECKING:
    from registry.backup import Collected, Line, Trailer
    from registry.restore import Row

TELL_AFTER = 2.0  # seconds until a command that still works says how far it is, and between two such lines


class Progress:
    """Lines on stderr, for commands that take long."""

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        self._what, self._clock = what, clock
        self._next = clock() + TELL_AFTER

    def __call__(self, done: int, total: int) -> None:
        if self._clock() >= self._next:
            self._next = self._clock() + TELL_AFTER
            note(f"{self._what}: {done} of {total} keys")


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@CONFIG
@click.option("--services", is_flag=True, help="instances too; their hosts register them anew by themselves")
@OUTPUT
@click.pass_obj
def backup(target: Callable[[], Target], file: Path, config: Path | None, services: bool, output: str) -> None:
    """Write policy, trust, revocations, history, hosts and the store's id to a new file (0600).

    Leases, sessions and status are left out: hosts write them anew. No private key is in the registry or in the file.

    \b
    Examples:
      meshctl registry backup /var/backups/mesh-2026-11-23
      meshctl --token-file operator registry backup mesh.backup       # Consul, etcd: an account that may read ca/
      meshctl registry backup mesh.backup --config /etc/meshd/meshd.yaml      # while meshd does not run
    """
    found = asyncio.run(_collect(target, config, services))
    with _new(file) as out:
        trailer = _write(found, out)
    answer = {
        "file": str(file), "keys": trailer.entries, "index": found.header.index,
        "store_id": found.header.store_id, "sha256": trailer.sha256, "skipped": list(found.skipped),
    }  # fmt: skip
    for key in found.skipped:
        note(f"note: {key} is left out: its name is outside the alphabet of keys")
    if not found.header.store_id:
        note("note: the store has no store-id: it is new, or was wiped")
    emit(answer, output, lambda: click.echo(f"{trailer.entries} keys of index {found.header.index} in {file}"))


async def _collect(target: Callable[[], Target], config: Path | None, services: bool) -> "Collected":
    from registry.backup import collect
    from registry.ca.rotation import stamp

    async with opened(target, config) as store:
        return await collect(store, stamp(time.time()), services=services)


def _write(found: "Collected", out: BinaryIO) -> "Trailer":
    from registry.backup import write

    tell = Progress("written")
    return write(found, out, lambda done: tell(done, len(found.lines)))


@contextmanager
def _new(path: Path) -> Iterator[BinaryIO]:
    """A new file, 0600 from its first byte, on disk when this ends; removed when it could not be finished."""
    try:
        handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError as error:
        raise click.UsageError(f"{path} exists; remove it or choose another name") from error
    except OSError as error:
        raise click.UsageError(f"{path}: {error.strerror}") from error
    try:
        with os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
    except BaseException as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise click.ClickException(f"{path}: {error.strerror}") from error
        raise


@click.command()
@click.argument("file", type=click.Path(dir_okay=False, path_type=Path))
@CONFIG
@click.option("--dry-run", is_flag=True, help="only show what would happen to each key")
@click.option("--overwrite", is_flag=True, help="also keys whose value in the store is another one")
@click.option("--services", is_flag=True, help="instances too, as far as the backup holds them")
@OUTPUT
@click.pass_obj
def restore(  # budget: click hands over one parameter for each option
    target: Callable[[], Target],
    file: Path,
    config: Path | None,
    dry_run: bool,
    overwrite: bool,
    services: bool,
    output: str,
) -> None:
    """Put a backup back, by compare-and-set: into a wiped store, or into an empty one of another kind.

    Keys of the store that the backup does not have stay. Nothing is written while one value differs, unless
    --overwrite; doing it again goes on where it ended. The store's id comes last: then hosts take the store as theirs.
    On Consul and etcd send a token that may write policy/, ca/ and store-id (--token-file); the host's own may not.

    \b
    Examples:
      meshctl registry restore mesh.backup --dry-run
      meshctl --token-file admin registry restore mesh.backup
      meshctl registry restore mesh.backup --config meshd-on-etcd.yaml
    """
    lines = tuple(line for line in _read(file) if services or not line.key.startswith("mesh/v1/services/"))
    found, extra = asyncio.run(_restore(target, config, lines, None if dry_run else overwrite))
    answer = {
        "keys": [{"key": row.key, "verdict": row.verdict, "why": row.why} for row in found],
        "only_in_store": list(extra), "written": not dry_run,
    }  # fmt: skip
    emit(answer, output, lambda: show(found, extra, dry_run))
    if dry_run and any(row.verdict == "differs" for row in found) and not overwrite:
        note("keys differ: nothing is restored without --overwrite")


def _read(file: Path) -> "tuple[Line, ...]":
    from registry.backup import read
    from registry.errors import Corrupt

    try:
        with file.open("rb") as source:
            return read(source).lines
    except OSError as error:
        raise click.UsageError(f"{file}: {error.strerror}") from error
    except Corrupt as error:
        raise click.ClickException(f"{file}: {error}") from error


async def _restore(
    target: Callable[[], Target], config: Path | None, lines: "tuple[Line, ...]", overwrite: bool | None
) -> "tuple[tuple[Row, ...], tuple[str, ...]]":
    """`overwrite` None: look only."""
    from registry.restore import Differs, look
    from registry.restore import restore as put_back

    async with opened(target, config) as store:
        found, extra = await look(store, lines)
        if overwrite is None:
            return found, extra
        try:
            found = await put_back(store, lines, overwrite=overwrite, progress=Progress("restored"))
        except Differs as error:
            raise click.ClickException(
                f"{error}: these are as they were; look with --dry-run, then --overwrite if the backup is right"
            ) from error
        return found, extra


def show(found: "tuple[Row, ...]", extra: tuple[str, ...], dry_run: bool) -> None:
    if dry_run:
        rows(("KEY", "IN THE STORE", "NOTE"), [(row.key, row.verdict, row.why) for row in found])
    counts = Counter(row.verdict for row in found)
    did = "would write" if dry_run else "restored"
    new = counts["new"] + counts["earlier"]
    click.echo(f"{did} {new} new and {counts['differs']} differing keys, {counts['same']} are the same")
    if counts["kept"]:
        click.echo(f"{counts['kept']} kept as the store has them")
    for key in extra:
        click.echo(f"only in the store: {key}")
