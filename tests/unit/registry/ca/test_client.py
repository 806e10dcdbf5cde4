"""A host's side: several addresses, clocks, and answers that are checked before they are believed."""

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from registry.ca import bundle, certificate, client, csr, files, svid, tls
from registry.ca.certificate import DAY
from registry.ca.entitlement import Entitlement
from registry.ca.init import First, recover
from registry.errors import Conflict, Corrupt, Denied, NotFound, RegistryError, TooLarge, Unavailable
from tests.fakes.authority import World, joined, place, serve, serve_app, world

NOBODY = "127.0.0.1:1"


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path / "a")


async def test_join_sign_renew(made: World, tmp_path: Path) -> None:
    made.register("api", "b", "1")
    async with serve(made) as address:
        layout, granted = await joined(made, address, tmp_path / "b", "b", ["api"])
        assert granted.addresses == ("127.0.0.1:15444",)
        assert granted.trust_domain == "mesh.local"
        asked = place(layout, [NOBODY, address], made.clock)
        service = await client.sign_service(asked, "b", "api", "1")
        assert service.svid.identity.uri == "spiffe://mesh.local/svc/api/n/b/i/1"
        assert service.credentials.key.public_key() == service.svid.key
        renewed = await client.renew_node(asked, granted.credentials)
        assert renewed.credentials.key_pem == granted.credentials.key_pem
        assert renewed.svid.serial != granted.svid.serial
        made.store.away = True
        again = await client.sign_service(asked, "b", "api", "1", service.credentials)
        assert again.offline
        assert again.credentials.key_pem != service.credentials.key_pem
        with pytest.raises(Unavailable, match="the store is away"):
            await client.sign_service(asked, "b", "api", "1")


async def test_join_accepts_the_hash_as_people_copy_it(made: World) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    spelled = ":".join(made.made.root_hash[i : i + 2] for i in range(0, 64, 2)).upper() + "\n"
    async with serve(made) as address:
        granted = await client.join([NOBODY, address], token + "\n", spelled, made.clock.time)
    assert granted.svid.identity.node == "b"


async def test_the_first_host_gets_its_role_certificate_again(made: World) -> None:
    async with serve(made) as address:
        own = place(made.layout, [address], made.clock)
        granted = await client.sign_role(own, "a", "ca", files.load(made.layout.role))
    assert granted.svid.identity.uri == "spiffe://mesh.local/role/ca/a"


async def test_a_host_that_slept_40_days_exchanges(made: World, tmp_path: Path) -> None:
    """Its certificate has expired for TLS too, so the exchange goes without one."""
    past = world(tmp_path / "past", now=time.time() - 40 * DAY)
    token = past.authority().join_token("b", Entitlement(services=("api",)), 60)
    key = certificate.new_key()
    signed = await past.authority().join(token, csr.make(key), "test")
    held = files.Credentials(key, bundle.read_pem(signed.chain.encode()))
    past.clock.now += 40 * DAY
    files.save(past.layout.role, _role(past))
    roots = files.read_certificates(past.layout.roots)
    async with serve(past) as address:
        bare = tls.pinned_context(roots, "mesh.local")
        asked = client.Place([address], roots, "mesh.local", past.clock.time, bare)
        granted = await client.renew_node(asked, held)
    assert granted.svid.identity.node == "b"
    assert granted.svid.not_after > time.time() + 29 * DAY


def _role(made: World) -> files.Credentials:

    recover(made.layout, First(node="a"), made.clock.now)
    return files.load(made.layout.role)


async def test_nobody_answers(made: World) -> None:
    with pytest.raises(Unavailable, match=r"no authority answers: 127\.0\.0\.1:1 cannot be asked"):
        await client.join([NOBODY], "t", made.made.root_hash, made.clock.time)
    with pytest.raises(Unavailable, match="no address given"):
        await client.join([], "t", made.made.root_hash, made.clock.time)
    with pytest.raises(Unavailable, match="no authority signed"):
        await client.renew_node(place(made.layout, [NOBODY], made.clock), files.load(made.layout.node))


async def test_an_authority_with_an_expired_certificate_shows_both_clocks(made: World, tmp_path: Path) -> None:
    """linkerd2#6427: the message must point at the clocks."""
    past = world(tmp_path / "past", now=time.time() - 40 * DAY)
    async with serve(past) as address:
        with pytest.raises(Unavailable, match=r"expired.*this host's clock says .*, that server's"):
            await client.renew_node(place(past.layout, [address], made.clock), files.load(made.layout.node))


async def test_a_clock_behind_says_so(made: World) -> None:
    """The host's clock is an hour late: the new certificate is not valid yet, and the error has both clocks."""
    token = made.authority().join_token("b", Entitlement(), 60)
    now = made.clock.now
    async with serve(made) as address:
        with pytest.raises(Unavailable, match=r"not valid before .* this host's clock says .* other side's says"):
            await client.join([address], token, made.made.root_hash, lambda: now - 3600)


async def test_a_refusal_mentions_clocks_that_differ(made: World) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    now = made.clock.now
    made.clock.now += 3600
    async with serve(made) as address:
        with pytest.raises(Denied, match=r"expired at .*\(this host's clock says .*, the authority's"):
            await client.join([address], token, made.made.root_hash, lambda: now)


# ---- servers that answer oddly ----------------------------------------------------------------------------------


@asynccontextmanager
async def odd(made: World, answer: web.Response | None = None, **changed: Any) -> AsyncIterator[client.Place]:
    """An authority (right certificate) that answers `answer`, or a proper one with fields changed."""
    authority = made.authority()

    async def handler(request: web.Request) -> web.Response:
        if answer is not None:
            return web.Response(status=answer.status, body=answer.body, headers={"Content-Type": "application/json"})
        body = await request.json()
        caller = svid.read(files.load(made.layout.node).leaf, "mesh.local")
        signed = await authority.renew_node(caller, body["Csr"])
        proper = {
            "Certificate": signed.chain,
            "Roots": [],
            "TrustDomain": "mesh.local",
            "Addresses": [],
            "Offline": False,
            "Time": made.clock.now,
        }
        return web.json_response(proper | changed)

    app = web.Application()
    app.router.add_post("/{tail:.*}", handler)
    async with serve_app(app, tls.server_context(made.layout)) as address:
        yield replace(place(made.layout, [address], made.clock), patience=2.0)


async def test_the_proper_answer_passes(made: World) -> None:
    async with odd(made) as asked:
        assert (await client.renew_node(asked, files.load(made.layout.node))).svid.identity.node == "a"


async def test_answers_that_are_not_what_was_asked_for(made: World, tmp_path: Path) -> None:
    held = files.load(made.layout.node)
    foreign = files.load(world(tmp_path / "foreign").layout.node)
    for chain, reason in (
        ("", "holds no certificate"),
        (files.load(made.layout.role).chain_pem, "another key"),
        (held.chain_pem.split("-----END")[0], "holds no certificate"),
        (bundle.write_pem(held.chain[:1]), "does not lead to a trusted root"),
        (foreign.chain_pem, "does not lead to a trusted root"),
        (files.load(made.layout.issuer).chain_pem, "CA:TRUE"),
    ):
        async with odd(made, Certificate=chain) as asked:
            with pytest.raises(Corrupt, match=reason):
                await client.renew_node(asked, held)
    async with odd(made) as asked:
        with pytest.raises(Corrupt, match="instead of"):
            await client.sign_service(asked, "a", "api", "1")


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Denied),
        (403, Denied),
        (404, NotFound),
        (409, Conflict),
        (413, TooLarge),
        (429, Unavailable),
        (500, Unavailable),
        (503, Unavailable),
        (302, Denied),
    ],
)
async def test_statuses_become_errors(made: World, status: int, kind: type[RegistryError]) -> None:
    body = json.dumps({"error": "told you", "field": "", "hint": "", "time": made.clock.now}).encode()
    async with odd(made, web.Response(status=status, body=body)) as asked:
        with pytest.raises(kind, match="told you"):
            await client.renew_node(asked, files.load(made.layout.node))


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b"\xff", b"x" * (client.MAX_ANSWER + 10)])
async def test_answers_of_something_else(made: World, body: bytes) -> None:
    async with odd(made, web.Response(body=body)) as asked:
        with pytest.raises(Unavailable, match="no answer of an authority"):
            await client.renew_node(asked, files.load(made.layout.node))
    async with odd(made, web.Response(status=403, body=body)) as asked:
        with pytest.raises(Denied, match="status 403"):
            await client.renew_node(asked, files.load(made.layout.node))


async def test_roots_of_something_else(made: World) -> None:
    app = web.Application()

    async def handler(_: web.Request) -> web.Response:
        return web.Response(body=b"<html>")

    app.router.add_get("/v1/roots", handler)
    async with serve_app(app, tls.server_context(made.layout)) as address:
        with pytest.raises(Unavailable, match="no answer of an authority"):
            await client.join([address], "t", made.made.root_hash, made.clock.time)


async def test_a_silent_server_is_given_up(made: World) -> None:
    never = asyncio.Event()

    async def handler(_: web.Request) -> web.Response:
        await never.wait()
        return web.Response()

    app = web.Application()
    app.router.add_get("/v1/roots", handler)
    async with serve_app(app, tls.server_context(made.layout)) as address:
        with pytest.raises(Unavailable, match=r"did not answer within 0\.2 s"):
            await client.join([address], "t", made.made.root_hash, made.clock.time, patience=0.2)
        never.set()
