"""`meshctl doctor`: what is wrong with this host, its registry and its rights, and what to do about it."""

import asyncio
import os
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.cli.output import OUTPUT, emit, note, rows
from meshd.cli.stores import CONFIG, BadConfig, beside, load, of_host, served
from meshd.cli.target import Refused, Target, Unreachable
from meshd.version import version

if TYPE_CHECKING:
    from meshd.config import Host
    from meshd.doctor.check import Check
    from registry.store import Store

TELL_AFTER = 2.0  # seconds until it says what it is looking at


@click.command()
@CONFIG
@OUTPUT
@click.pass_obj
def doctor(target: Callable[[], Target], config: Path | None, output: str) -> None:
    """Look at the registry, this host's rights there, clocks, versions, certificates, disk, ports and the proxy.

    Asks the running meshd for its settings, or reads --config FILE (before the first start). Run it as meshd's user
    or as root. Every line says what was seen and what to do; nothing is left behind.

    \b
    Examples:
      meshctl doctor
      meshctl doctor --config /etc/meshd/meshd.yaml
      meshctl doctor -o json | jq '.[] | select(.verdict != "ok")'

    Exit status: 0 all lines are ok or warn, 1 a line is fail, 75 no address of the registry answers.
    """
    from meshd.doctor.check import exit_code

    host = load(config) if config is not None else settings(target())
    found = asyncio.run(examine(host, None if config is not None else target()))
    table = [(check.verdict, check.name, check.seen, check.todo) for check in found]
    emit(found, output, lambda: rows(("", "CHECK", "SEEN", "TO DO"), table))
    raise click.exceptions.Exit(exit_code(found))


def settings(target: Target) -> "Host":
    """Of the running meshd. Raises Refused, Unreachable, BadConfig."""
    import msgspec

    from meshd.config import restore

    try:
        return restore(target.read("/v1/mesh/settings", dict))
    except Refused as refused:
        if refused.status != 404:
            raise
        raise BadConfig("this meshd does not show its settings: give --config FILE") from refused
    except msgspec.ValidationError as error:
        raise BadConfig(f"meshd is of another version than meshctl ({error}): give --config FILE") from error
    except Unreachable as error:
        raise Unreachable(f"{error}; before meshd runs: meshctl doctor --config FILE") from error


async def examine(host: "Host", target: Target | None) -> "list[Check]":
    from meshd.doctor.examine import Doctor, Place, Side

    found: list[Check] = []
    async with AsyncExitStack() as stack:
        sides = [Side(host.registry, *await stack.enter_async_context(store_of(host, target)))]
        for section in host.registries:
            sides.append(Side(section, *await stack.enter_async_context(opened(lambda one=section: beside(host, one)))))  # type: ignore[misc]  # bound here
        place = Place(host, tuple(sides), os.environ, time.time, version())
        told = time.monotonic() + TELL_AFTER
        for what, step in Doctor(place).steps:
            if time.monotonic() >= told:
                note(f"looking at {what} ...")
            async for check in step():
                found.append(check)
    return found


@asynccontextmanager
async def store_of(host: "Host", target: Target | None) -> "AsyncIterator[tuple[Store | None, str]]":
    """With the host's own account; the embedded one through the meshd that has it open. None with the reason."""
    embedded = host.registry.kind == "sqlite"
    if embedded and target is not None:
        async with served(target) as store:
            yield store, ""
        return
    if embedded:
        yield None, "the embedded registry is asked through its meshd: start it"
        return
    async with opened(lambda: of_host(host)) as found:
        yield found


@asynccontextmanager
async def opened(
    how: "Callable[[], AbstractAsyncContextManager[Store]]",
) -> "AsyncIterator[tuple[Store | None, str]]":
    """A store, or why it cannot be opened."""
    from registry.errors import RegistryError

    async with AsyncExitStack() as stack:
        found: tuple[Store | None, str]
        try:
            found = await stack.enter_async_context(how()), ""
        except (RegistryError, BadConfig) as error:
            found = None, str(error)
        yield found
