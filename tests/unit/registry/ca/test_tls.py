"""TLS of 15444: version, optional client certificate, and reload while it runs."""

import asyncio
import ssl
from pathlib import Path

import pytest
from aiohttp import web

from registry.ca import client, files, tls
from registry.ca.init import First, recover
from registry.ca.routes import routes
from registry.errors import Corrupt, Denied, NotFound, Unavailable
from tests.fakes.authority import World, joined, place, serve, serve_app, world


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path / "a")


async def fetch(address: str, context: ssl.SSLContext) -> tuple[bytes, str | None]:
    """(server certificate, TLS version) of a fresh connection."""

    _, writer = await asyncio.open_connection(*address.split(":"), ssl=context, server_hostname="peer.mesh.local")
    connection = writer.get_extra_info("ssl_object")
    found = connection.getpeercert(binary_form=True), connection.version()
    writer.close()
    await writer.wait_closed()
    return found


async def test_only_tls_1_3(made: World) -> None:
    roots = files.read_certificates(made.layout.roots)
    async with serve(made) as address:
        assert (await fetch(address, tls.pinned_context(roots, "mesh.local")))[1] == "TLSv1.3"
        older = tls.pinned_context(roots, "mesh.local")
        older.minimum_version = ssl.TLSVersion.TLSv1_2
        older.maximum_version = ssl.TLSVersion.TLSv1_2
        with pytest.raises((ssl.SSLError, OSError)):
            await fetch(address, older)


async def test_the_server_name_is_demanded(made: World) -> None:

    context = tls.pinned_context(files.read_certificates(made.layout.roots), "mesh.local")
    async with serve(made) as address:
        for name in ("peer.mesh.local.evil", "other.mesh.local", "127.0.0.1"):
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.open_connection(*address.split(":"), ssl=context, server_hostname=name)


async def test_a_role_of_another_trust_domain_is_refused(tmp_path: Path) -> None:
    other = world(tmp_path / "o", First(node="a", trust_domain="other.example"))
    context = tls.pinned_context(files.read_certificates(other.layout.roots), "mesh.local")
    context.check_hostname = False
    async with serve(other) as address:
        with pytest.raises(ssl.SSLCertVerificationError, match="no authority"):
            await fetch(address, context)


async def test_a_renewed_role_certificate_is_served_without_a_restart(made: World) -> None:
    context = tls.server_context(made.layout)

    pinned = tls.pinned_context(files.read_certificates(made.layout.roots), "mesh.local")
    async with serve_app(web.Application(), context) as address:
        first = (await fetch(address, pinned))[0]
        recover(made.layout, First(node="a"), made.clock.now)
        assert (await fetch(address, pinned))[0] == first
        context.reload()
        assert (await fetch(address, pinned))[0] != first


async def test_a_retired_root_ends_its_nodes_without_a_restart(made: World, tmp_path: Path) -> None:
    """What load_verify_locations alone cannot do: trust is taken away from a running listener."""

    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
    context = tls.server_context(made.layout)
    app = web.Application()
    app.add_routes(routes(made.authority(), made.clock.time))
    other = world(tmp_path / "other")
    async with serve_app(app, context) as address:
        asked = place(layout, [address], made.clock)
        held = files.load(layout.node)
        assert await client.renew_node(asked, held)
        files.write(made.layout.roots, files.read(other.layout.roots))
        context.reload()
        with pytest.raises(Unavailable):
            await client.renew_node(asked, held)


async def test_a_failed_reload_keeps_what_was(made: World) -> None:
    context = tls.server_context(made.layout)
    key = made.layout.role.key.read_bytes()
    made.layout.role.key.unlink()
    with pytest.raises(NotFound):
        context.reload()
    files.write(made.layout.role.key, key)
    made.layout.role.key.chmod(0o644)
    with pytest.raises(Denied):
        context.reload()
    outgoing = ssl.MemoryBIO()
    assert context.wrap_bio(ssl.MemoryBIO(), outgoing, server_side=True) is not None


def test_files_that_do_not_fit_are_named(made: World) -> None:
    files.write(made.layout.node.certificate, files.read(made.layout.role.certificate))
    with pytest.raises(Corrupt, match="does not belong"):
        tls.client_context(made.layout)


def test_a_certificate_that_nobody_verified_is_none(made: World) -> None:
    assert tls.peer_certificate(None) is None
    assert tls.peer_certificate(object()) is None
    unverified = tls.unverified_context().wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
    assert tls.peer_certificate(unverified) is None


def test_the_outer_context_alone_trusts_nobody(made: World) -> None:
    """Should a library use it without wrap_bio, it fails instead of trusting."""
    context = tls.client_context(made.layout)
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.check_hostname
    assert context.cert_store_stats()["x509_ca"] == 0


async def test_several_roots_at_once(made: World, tmp_path: Path) -> None:
    """A host that trusts an old and a new root reaches authorities of either."""
    other = world(tmp_path / "other")
    both = files.read_certificates(made.layout.roots) + files.read_certificates(other.layout.roots)
    for one in (made, other):
        async with serve(one) as address:
            assert await fetch(address, tls.pinned_context(both, "mesh.local"))
