"""Certificates that must not count, by reading and on real TLS.

Named after CVE-2022-40716 and CVE-2021-32574 (Consul), CVE-2025-66220 (Envoy), CVE-2026-39350 (Istio).
"""

import asyncio
import ssl
import time
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from registry.ca import bundle, files, names, svid, tls
from registry.errors import Corrupt
from tests.fakes.authority import World, serve, serve_app, world
from tests.security import cert_zoo

DOMAIN = "mesh.local"
COUNT = 54


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def specimens(made: World) -> list[cert_zoo.Specimen]:
    issuer = files.load(made.layout.issuer)
    return cert_zoo.zoo(issuer.leaf, issuer.key)


@pytest.fixture(params=range(COUNT))
def specimen(request: pytest.FixtureRequest, specimens: list[cert_zoo.Specimen]) -> cert_zoo.Specimen:
    return specimens[request.param]


def test_the_zoo_is_full(specimens: list[cert_zoo.Specimen]) -> None:
    assert len(specimens) == COUNT
    assert len({item.name for item in specimens}) == len(specimens)


def test_specimen_speaks_for_nobody(made: World, specimen: cert_zoo.Specimen) -> None:
    roots = files.read_certificates(made.layout.roots)
    with pytest.raises((svid.BadSvid, Corrupt)):
        svid.verify(bundle.read_pem(specimen.cert_pem.encode()), roots, DOMAIN, time.time())


async def test_specimen_is_refused_as_client_and_as_server(
    made: World, specimen: cert_zoo.Specimen, tmp_path: Path
) -> None:
    context = _loaded(tls.pinned_context(files.read_certificates(made.layout.roots), DOMAIN), specimen, tmp_path)
    async with serve(made) as address:
        assert not await _accepted_as_client(address, context)
    server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    assert not await _accepted_as_server(made, _loaded(server, specimen, tmp_path))


async def test_the_good_leaf_gets_through_as_client(made: World, tmp_path: Path) -> None:
    """Otherwise the refusals above would prove nothing."""
    issuer = files.load(made.layout.issuer)
    leaf = cert_zoo.good(issuer.leaf, issuer.key, names.node_id(DOMAIN, "b"))
    context = _loaded(tls.pinned_context(files.read_certificates(made.layout.roots), DOMAIN), leaf, tmp_path)
    async with serve(made) as address:
        assert await _accepted_as_client(address, context)


async def test_a_joined_node_cannot_pose_as_the_authority(made: World, tmp_path: Path) -> None:
    """CVE-2021-32574: a valid chain of the right root is not enough to be the server."""
    issuer = files.load(made.layout.issuer)
    for uri in (names.node_id(DOMAIN, "b"), names.service_id(DOMAIN, "api", "b", "1")):
        leaf = cert_zoo.good(issuer.leaf, issuer.key, uri)
        server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        assert not await _accepted_as_server(made, _loaded(server, leaf, tmp_path))
    role = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    role.load_cert_chain(made.layout.role.certificate, made.layout.role.key)
    assert await _accepted_as_server(made, role)


async def test_the_role_is_demanded_even_with_the_dns_name(made: World, tmp_path: Path) -> None:
    """A leaf that got the authority's DNS name by mistake is stopped by its URI."""
    issuer = files.load(made.layout.issuer)
    found = {item.name: item for item in cert_zoo.zoo(issuer.leaf, issuer.key)}
    server = _loaded(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), found["uri-and-peer-dns"], tmp_path)
    assert not await _accepted_as_server(made, server)


def _loaded(context: ssl.SSLContext, specimen: cert_zoo.Specimen, path: Path) -> ssl.SSLContext:
    pem = path / "specimen.pem"
    pem.write_text(specimen.cert_pem + specimen.key_pem)
    context.load_cert_chain(pem)
    return context


async def _accepted_as_client(address: str, context: ssl.SSLContext) -> bool:
    """Whether the authority read an identity from the certificate (what it may do is decided after that)."""
    try:
        async with (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
            session.post(f"https://{address}/v1/renew", json={"Csr": ""}, server_hostname="peer.mesh.local") as answer,
        ):
            text = await answer.text()
            assert answer.status == 403
            return "client certificate" not in text
    except (aiohttp.ClientError, OSError):
        return False


async def _accepted_as_server(made: World, server: ssl.SSLContext) -> bool:
    """Whether a client of 15444 would send anything to a server with this certificate."""
    reached = asyncio.Event()

    async def handler(request: web.Request) -> web.Response:
        reached.set()
        return web.Response()

    app = web.Application()
    app.router.add_get("/", handler)
    context = tls.client_context(made.layout)
    async with serve_app(app, server) as address:
        try:
            async with (
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=context)) as session,
                session.get(f"https://{address}/", server_hostname="peer.mesh.local") as answer,
            ):
                assert answer.status == 200
        except (aiohttp.ClientError, OSError):
            pass
    return reached.is_set()
