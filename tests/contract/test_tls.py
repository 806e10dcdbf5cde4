"""Whom a store believes, and what it says when it does not: Consul and etcd as a host's configuration opens them.

The servers of whoever is refused are plain TLS listeners: nothing is ever sent to them.
"""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from signal import SIGTERM

import msgspec
import pytest

from meshd.config import Registry
from registry.backends.consul_open import open_consul
from registry.backends.etcd_open import open_etcd
from registry.errors import Denied, Unavailable
from registry.store import Batch, Lost, Resync, Store, Watch, WatchEvent
from tests.consul_agent import random_host
from tests.consul_server import NEWER, OLDER, ConsulServer
from tests.contract.servers import opened
from tests.contract.validators import PATIENCE, news
from tests.etcd_server import etcd_server, newer, older
from tests.fakes.pki import Pki

KEY = "mesh/v1/config/mesh"
KINDS = ("consul", "etcd")


def opened_as(kind: str, address: str, **files: Path | str) -> Store:
    said = {"Kind": kind, "Addresses": [address]} | {name: str(path) for name, path in files.items()}
    settings = msgspec.convert(said, Registry)
    return open_etcd(settings) if kind == "etcd" else open_consul(settings, "a", "10.0.0.1")[0]


@asynccontextmanager
async def listening(certificate: tuple[Path, Path], roots: Path) -> AsyncIterator[tuple[str, list[bytes]]]:
    """A server that shows the certificate and wants one of `roots`; and what it was sent."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*certificate)
    context.load_verify_locations(roots)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2", "http/1.1"])
    sent: list[bytes] = []

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        sent.extend([said] if (said := await reader.read(100)) else [])
        writer.close()

    server = await asyncio.start_server(read, "127.0.0.1", 0, ssl=context)
    async with server:
        yield f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}", sent


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("wrong", "mended"),
    [("authority", "CAFile {ca}"), ("expired", "has expired: renew it there"), ("name", "Addresses must use")],
)
async def test_a_server_that_is_not_the_one_meant_is_sent_nothing_and_the_reason_is_told(
    tmp_path: Path, kind: str, wrong: str, mended: str
) -> None:
    pki, other = Pki(tmp_path), Pki(tmp_path / "other", "other")
    certificate = pki.issue(
        "server",
        address="127.9.9.9" if wrong == "name" else "127.0.0.1",
        hours=-0.5 if wrong == "expired" else 1.0,
    )
    ca = other.roots if wrong == "authority" else pki.roots
    own = pki.issue("client")
    async with listening(certificate, pki.roots) as (address, sent):
        store = opened_as(kind, address, CAFile=ca, CertFile=own[0], KeyFile=own[1])
        for call in (store.get, store.list):
            with pytest.raises(Unavailable) as caught:
                await call("mesh/v1/config/")
            assert mended.format(ca=ca) in str(caught.value)
            assert address.removeprefix("https://") in str(caught.value)
        async with aclosing(store.watch("mesh/v1/config/")) as watch:
            lost = await news(watch)
            assert isinstance(lost, Lost)
            assert mended.format(ca=ca) in lost.reason
        await store.close()
    assert sent == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("missing", ["CAFile", "CertFile", "KeyFile"])
def test_a_file_that_is_not_there_is_named_before_anybody_is_asked(tmp_path: Path, kind: str, missing: str) -> None:
    pki = Pki(tmp_path)
    own = pki.issue("client")
    files: dict[str, Path | str] = {"CAFile": pki.roots, "CertFile": own[0], "KeyFile": own[1]}
    files[missing] = tmp_path / "no-such.pem"
    with pytest.raises(Denied, match=r"no-such\.pem|client\.crt"):
        opened_as(kind, "https://127.0.0.1:1", **files)


@dataclass
class Guarded:
    """A server of a test's own that wants certificates of the authority in `pki`; `start` reads what `trust` says."""

    kind: str
    url: str
    start: Callable[[], object]
    stop: Callable[[], object]
    trust: Callable[[Pki], None]
    token: str


def etcd(binary: Path, directory: Path) -> Guarded:
    server = etcd_server(binary, directory)

    def trust(pki: Pki) -> None:
        server.tls = (*pki.issue("server", address=server.host), pki.roots)

    url = f"https://{server.host}:{server.port}"
    return Guarded("etcd", url, server.start, lambda: server.stop(SIGTERM), trust, "")


def consul(program: str, directory: Path) -> Guarded:
    server = ConsulServer(directory, random_host(), program=program)

    def trust(pki: Pki) -> None:
        certificate, key = pki.issue("server", address=server.host)
        client = pki.issue("test")
        names = ("ca.pem", "server.pem", "server-key.pem", "client.pem", "client-key.pem")
        for source, name in zip((pki.roots, certificate, key, *client), names, strict=True):
            shutil.copy(source, directory / name)

    return Guarded("consul", server.url, server.start, lambda: server.end(SIGTERM), trust, server.management)


SERVERS: dict[str, Callable[[Path], Guarded]] = {
    "consul-1.8": lambda directory: consul(OLDER, directory),
    "consul-1.13": lambda directory: consul(NEWER, directory),
    "etcd-3.4": lambda directory: etcd(older(), directory),
    "etcd-3.7": lambda directory: etcd(newer(), directory),
}


@pytest.mark.outages
@pytest.mark.timeout(90)
@pytest.mark.parametrize("name", SERVERS)
async def test_authority_and_certificate_are_replaced_without_a_restart_of_the_host(tmp_path: Path, name: str) -> None:
    """First the host's own certificate under a running watch, then the whole authority with the server."""
    old, new = Pki(tmp_path / "old", "old"), Pki(tmp_path / "new", "new")
    server = SERVERS[name](tmp_path / "server")
    held = {part: tmp_path / part for part in ("CAFile", "CertFile", "KeyFile")}

    def hold(pki: Pki, own: str) -> None:
        for part, source in zip(held, (pki.roots, *pki.issue(own)), strict=True):
            shutil.copy(source, held[part])

    files: dict[str, Path | str] = dict(held)
    if server.token:
        files["TokenFile"] = tmp_path / "token"
        (tmp_path / "token").write_text(server.token)
    server.trust(old)
    hold(old, "first")
    await asyncio.to_thread(server.start)
    try:
        async with (
            opened(lambda: opened_as(server.kind, server.url, **files)) as store,
            aclosing(store.watch("mesh/v1/config/")) as watch,
        ):
            assert isinstance(await news(watch), Resync)
            hold(old, "second")
            await written(store, b"1")
            await until(watch, Batch)
            await asyncio.to_thread(server.stop)
            await until(watch, Lost)
            server.trust(new)
            await asyncio.to_thread(server.start)
            with pytest.raises(Unavailable, match="CAFile"):
                await refused(store)
            hold(new, "third")
            await written(store, b"2")
            await until(watch, Batch, Resync)
    finally:
        await asyncio.to_thread(server.stop)


async def until(watch: Watch, *wanted: type[WatchEvent]) -> None:
    async with asyncio.timeout(PATIENCE * 2):
        while not isinstance(await anext(watch), wanted):
            pass


async def refused(store: Store) -> None:
    """Ask until the answer is not that nobody is there (yet)."""
    async with asyncio.timeout(PATIENCE):
        while True:
            try:
                await store.get(KEY)
            except Unavailable as error:
                if "certificate" in str(error):
                    raise
                await asyncio.sleep(0.05)  # sleep: between two questions


async def written(store: Store, value: bytes) -> None:
    async with asyncio.timeout(PATIENCE * 2):
        while True:
            try:
                await store.put(KEY, value)
            except Unavailable:
                await asyncio.sleep(0.05)  # sleep: between two tries
            else:
                return
