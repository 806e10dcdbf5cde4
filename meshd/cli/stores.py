"""The registry as a command sees it: through a running meshd, or (`--config FILE`) as a host's configuration says."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from meshd.cli.target import Target

if TYPE_CHECKING:
    from meshd.config import Host
    from meshd.registry_settings import Further
    from registry.store import Store

CONFIG = click.option(
    "--config",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="the host's configuration: ask its registry itself, without a meshd",
)


class BadConfig(click.ClickException):
    """The configuration cannot be used."""

    exit_code = 78


def load(config: Path) -> "Host":
    """Raises BadConfig."""
    import os

    from meshd.config import load as read
    from meshd.placed import ConfigError

    try:
        return read(config, os.environ)
    except ConfigError as error:
        raise BadConfig(str(error)) from error


@asynccontextmanager
async def opened(target: Callable[[], Target], config: Path | None) -> "AsyncIterator[Store]":
    """Raises BadConfig, Unreachable, and RegistryError for files that cannot be used."""
    async with served(target()) if config is None else of_host(load(config)) as store:
        yield store


@asynccontextmanager
async def of_host(host: "Host") -> "AsyncIterator[Store]":
    """The registry itself, with the host's own account. Raises BadConfig, and RegistryError for files."""
    from meshd.control.contact import Contact
    from meshd.placed import ConfigError
    from meshd.ports import Lock
    from meshd.stores import open_home

    try:
        # the embedded registry has one process at a time: its index and leases are in that one's memory
        lock = Lock(host.run) if host.registry.kind == "sqlite" else None
    except ConfigError as error:
        raise BadConfig(f"{error}; leave out --config to ask it") from error
    try:
        store = open_home(host, Contact()).store
        try:
            yield store
        finally:
            await store.close()
    finally:
        if lock is not None:
            lock.close()


@asynccontextmanager
async def beside(host: "Host", section: "Further") -> "AsyncIterator[Store]":
    """A registry beside the home one, with the host's own account. Raises RegistryError for files."""
    from meshd.control.contact import Contact
    from meshd.stores import open_server

    store = open_server(section, host, Contact()).store
    try:
        yield store
    finally:
        await store.close()


@asynccontextmanager
async def served(target: Target) -> "AsyncIterator[Store]":
    """Through the KV API of a meshd, which is Consul's."""
    from registry.backends.consul import ConsulStore

    store = ConsulStore([url_of(target.api)], token=lambda: target.token or None)
    try:
        yield store
    finally:
        await store.close()


def url_of(api: str) -> str:
    """Of `--api`: a relative path's first part would be read as a host."""
    return api if api.startswith("http://") else f"unix://{Path(api.removeprefix('unix://')).absolute()}"
