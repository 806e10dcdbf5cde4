"""Ways to get into the mesh that must stay shut: tokens, roots, names and what a writer of the store can forge.

Rows 16 and 44 of the table of known failures (SPIRE CVE-2021-27098, Consul CVE-2022-40716 and CVE-2021-41803).
"""

import json
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import msgspec
import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from registry import keys
from registry.ca import bundle, certificate, client, csr, entitlement, files, journal, tls
from registry.ca.entitlement import Entitlement
from registry.ca.init import First
from registry.errors import Denied, Unavailable
from tests.fakes.authority import World, joined, place, serve, serve_app, world


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path / "a")


async def refused(made: World, joining: Callable[[str], Awaitable[object]], reason: str) -> None:
    """A join is refused with `reason`, in the journal too, and nothing was signed."""
    async with serve(made) as address:
        with pytest.raises(Denied, match=reason):
            await joining(address)
    lines = journal.Journal(made.layout.journal).read()
    assert any(isinstance(line, journal.Refused) and line.action in ("join", "exchange") for line in lines)
    assert not [key for key in made.store.entries if key.startswith(keys.CA_ISSUED)]


def joining(made: World, token: str) -> Callable[[str], Awaitable[object]]:
    return lambda address: client.join([address], token, made.made.root_hash, made.clock.time)


@pytest.mark.parametrize("token", ["", "mesh1.x.y", "garbage", "mesh1." + "A" * 40 + "." + "A" * 86, "a" * 40_000])
async def test_wrong_token(made: World, token: str) -> None:
    async with serve(made) as address:
        with pytest.raises(Denied):
            await joining(made, token)(address)
    assert not [key for key in made.store.entries if key.startswith(keys.CA)]


async def test_reused_token(made: World, tmp_path: Path) -> None:
    token = made.authority().join_token("b", Entitlement(services=("api",)), 60)
    async with serve(made) as address:
        await joining(made, token)(address)
        issued = [key for key in made.store.entries if key.startswith(keys.CA_ISSUED)]
        with pytest.raises(Denied, match="used before"):
            await joining(made, token)(address)
    assert issued == [key for key in made.store.entries if key.startswith(keys.CA_ISSUED)]


async def test_reused_token_after_the_first_use_timed_out(made: World) -> None:
    """The id is recorded before anything is signed, so an answer that got lost costs the token, never a second host."""
    token = made.authority().join_token("b", Entitlement(), 60)
    async with serve(made) as address:
        made.store.torn = True
        with pytest.raises(Unavailable):
            await joining(made, token)(address)
        made.store.torn = False
        with pytest.raises(Denied, match="used before"):
            await joining(made, token)(address)
    assert not [key for key in made.store.entries if key.startswith(keys.CA_ISSUED)]


async def test_expired_token(made: World) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    made.clock.now += 61
    await refused(made, joining(made, token), "expired at .*clock says")


async def test_token_of_a_foreign_authority(made: World, tmp_path: Path) -> None:
    other = world(tmp_path / "other").authority()
    await refused(made, joining(made, other.join_token("b", Entitlement(), 60)), "not signed by this authority")


async def test_operator_token_does_not_join(made: World) -> None:
    await refused(made, joining(made, made.authority().operator_token("ann", 60)), "operator")


async def test_wrong_root_hash_sends_nothing(made: World) -> None:
    """The token stays at home: the only request on the unverified connection is GET /v1/roots."""
    seen: list[tuple[str, bytes]] = []

    async def record(request: web.Request) -> web.Response:
        seen.append((f"{request.method} {request.path}", await request.read()))
        pem = bundle.write_pem(made.authority().roots)
        return web.json_response({"TrustDomain": "mesh.local", "Roots": [pem], "Time": 0.0})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", record)
    token = made.authority().join_token("b", Entitlement(), 60)
    async with serve_app(app, tls.server_context(made.layout)) as address:
        with pytest.raises(Denied, match="nothing was sent"):
            await client.join([address], token, "0" * 64, made.clock.time)
    assert seen == [("GET /v1/roots", b"")]


async def test_stolen_roots_do_not_make_an_authority(made: World, tmp_path: Path) -> None:
    """A server that shows the right (public) roots but has another key never sees the token."""
    seen: list[str] = []
    pem = bundle.write_pem(made.authority().roots)

    async def record(request: web.Request) -> web.Response:
        seen.append(request.path)
        return web.json_response({"TrustDomain": "mesh.local", "Roots": [pem], "Time": 0.0})

    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", record)
    impostor = world(tmp_path / "impostor")
    token = made.authority().join_token("b", Entitlement(), 60)
    async with serve_app(app, tls.server_context(impostor.layout)) as address:
        with pytest.raises(Unavailable, match=r"no authority that this host trusts.*clock"):
            await client.join([address], token, made.made.root_hash, made.clock.time)
    assert "/v1/join" not in seen


async def test_certificate_for_another_nodes_instance(made: World, tmp_path: Path) -> None:
    """The name is built from the caller's own node: b cannot even spell c's instance."""
    made.register("api", "c", "api-1")
    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
        asked = place(layout, [address], made.clock)
        with pytest.raises(Denied, match="api/b/api-1 is not registered by b"):
            await client.sign_service(asked, "b", "api", "api-1")
        for service, instance_id in (("api", "../../c/i/api-1"), ("api/n/c/i/api-1", "x"), ("api", "")):
            assert await _status(asked, {"Service": service, "Id": instance_id, "Csr": _csr()}) in (400, 403)


async def test_service_that_is_not_entitled(made: World, tmp_path: Path) -> None:
    made.register("payments", "b", "p-1")
    made.register("api-2", "b", "p-1")
    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
        asked = place(layout, [address], made.clock)
        for service in ("payments", "api-2"):
            with pytest.raises(Denied, match="not entitled"):
                await client.sign_service(asked, "b", service, "p-1")
        with pytest.raises(Denied, match="not entitled to role"):
            await client.sign_role(asked, "b", "ca")


async def test_names_in_the_request_are_ignored(made: World, tmp_path: Path) -> None:
    """CVE-2022-40716: two URI SANs, DNS names, CA:TRUE and an entitlement in the CSR; only its key counts."""
    key = ec.generate_private_key(ec.SECP256R1())
    wanted = [
        x509.UniformResourceIdentifier("spiffe://mesh.local/svc/payments/n/b/i/1"),
        x509.UniformResourceIdentifier("spiffe://mesh.local/role/ca/b"),
        x509.DNSName("peer.mesh.local"),
    ]
    request = (
        x509.CertificateSigningRequestBuilder()
        .subject_name(x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "peer.mesh.local")]))
        .add_extension(x509.SubjectAlternativeName(wanted), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(entitlement.encode(Entitlement(services=("*",), roles=("ca",))), critical=False)
        .sign(key, hashes.SHA256())
    )
    made.register("api", "b", "api-1")
    pem = request.public_bytes(Encoding.PEM).decode()
    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
        asked = place(layout, [address], made.clock)
        answer = await _post(asked, "/v1/sign", {"Service": "api", "Id": "api-1", "Csr": pem})
    leaf = bundle.read_pem(answer["Certificate"].encode())[0]
    assert leaf.public_key() == key.public_key()
    assert leaf.subject == x509.Name([])
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert entitlement.decode(leaf) == Entitlement()
    names_in = list(leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value)
    assert names_in == [x509.UniformResourceIdentifier("spiffe://mesh.local/svc/api/n/b/i/api-1")]


async def test_a_service_certificate_asks_for_nothing(made: World, tmp_path: Path) -> None:
    made.register("api", "a", "1")
    async with serve(made) as address:
        own = place(made.layout, [address], made.clock)
        granted = await client.sign_service(own, "a", "api", "1")
        files.save(made.layout.node, granted.credentials)
        posing = place(made.layout, [address], made.clock)
        with pytest.raises(Denied, match="only nodes"):
            await client.sign_service(posing, "a", "api", "1")


async def test_nobody_signs_without_a_certificate(made: World) -> None:
    bare = client.Place(
        ["x"], made.authority().roots, "mesh.local", time.time, tls.pinned_context(made.authority().roots, "mesh.local")
    )
    async with serve(made) as address:
        asked = client.Place([address], bare.roots, bare.trust_domain, bare.now, bare.ssl)
        for path in ("/v1/sign", "/v1/renew"):
            with pytest.raises(Denied, match="no client certificate"):
                await client._ask(asked, path, {"Csr": _csr()})


# ---- what a writer of the store can forge (row 44) --------------------------------------------------------------


async def test_store_writer_adds_no_root(made: World, tmp_path: Path) -> None:
    foreign = world(tmp_path / "foreign")
    root = files.load(foreign.layout.root)
    forged = {
        "ca/roots/plain": bundle.publish(root.leaf),
        "ca/roots/self": bundle.sign("add", root.leaf, root.leaf, root.key),
        "ca/roots/pem": root.chain_pem.encode(),
        "ca/roots/retire": bundle.sign("retire", made.authority().roots[0], root.leaf, root.key),
    }
    trusted, problems = bundle.accept(made.authority().roots, forged, "mesh.local", made.clock.now)
    assert trusted == made.authority().roots
    assert set(problems) == set(forged)


async def test_store_writer_takes_no_root_away(made: World) -> None:
    assert bundle.accept(made.authority().roots, {}, "mesh.local", made.clock.now) == (made.authority().roots, {})


async def test_store_writer_makes_no_token(made: World) -> None:
    """Neither a hash nor a record in the store is a token, and deleting nothing is needed to replay: it is refused."""
    token = "mesh1.forged"
    await made.store.put(keys.CA + "tokens/" + "f" * 32, token.encode())
    await made.store.put(keys.CA + "tokens/hashes/x", csr.fingerprint(certificate.new_key().public_key()).encode())
    async with serve(made) as address:
        with pytest.raises(Denied):
            await joining(made, token)(address)


async def test_store_writer_widens_no_entitlement(made: World, tmp_path: Path) -> None:
    """The entitlement is in the node's certificate: what the store says about it is never read."""
    grant = msgspec.json.encode(Entitlement(services=("*",)))
    for key in (keys.NODES + "b", keys.CA + "entitlements/b", keys.CA + "nodes/b"):
        await made.store.put(key, grant)
    made.register("payments", "b", "1")
    async with serve(made) as address:
        layout, granted = await joined(made, address, tmp_path / "b", "b", ["api"])
        asked = place(layout, [address], made.clock)
        with pytest.raises(Denied, match="not entitled"):
            await client.sign_service(asked, "b", "payments", "1")
        renewed = await client.renew_node(asked, granted.credentials)
    assert entitlement.decode(renewed.svid.certificate) == Entitlement(services=("api",))


async def test_store_writer_registers_an_instance_for_another_node(made: World, tmp_path: Path) -> None:
    """Whoever writes services/payments/b/1 still holds no node certificate that is entitled to it."""
    made.register("payments", "b", "1")
    made.register("payments", "a", "1")
    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
        with pytest.raises(Denied, match="not entitled"):
            await client.sign_service(place(layout, [address], made.clock), "b", "payments", "1")


async def test_lookup_that_answers_another_instance_is_not_believed(made: World, tmp_path: Path) -> None:
    made.register("api", "c", "9")
    made.instances[("api", "b", "1")] = made.instances[("api", "c", "9")]
    async with serve(made) as address:
        layout, _ = await joined(made, address, tmp_path / "b", "b", ["api"])
        with pytest.raises(Denied, match="not registered"):
            await client.sign_service(place(layout, [address], made.clock), "b", "api", "1")


async def test_replay_after_the_used_record_was_deleted(made: World) -> None:
    """The authority's own disk remembers, also after a restart."""
    token = made.authority().join_token("b", Entitlement(services=("api",)), 60)
    async with serve(made) as address:
        await joining(made, token)(address)
    for key in [key for key in made.store.entries if key.startswith(keys.CA_TOKENS_USED)]:
        await made.store.delete(key)
    async with serve(made) as address:
        with pytest.raises(Denied, match="used before"):
            await joining(made, token)(address)


async def test_refusals_are_logged_without_secrets(made: World, caplog: pytest.LogCaptureFixture) -> None:
    token = made.authority().join_token("b", Entitlement(), 60)
    made.clock.now += 61
    with caplog.at_level(logging.WARNING):
        await refused(made, joining(made, token), "expired")
    text = made.layout.journal.read_text() + "".join(str(record.__dict__) for record in caplog.records)
    assert "expired" in text
    assert token.split(".")[1] not in text
    assert token.split(".")[2] not in text
    assert [record for record in caplog.records if record.__dict__.get("action") == "join"]


def test_the_first_host_needs_good_names(tmp_path: Path) -> None:
    for first in (First(node="../x"), First(node="a", trust_domain="Mesh"), First(node="a", services=("a b",))):
        with pytest.raises(Denied):
            world(tmp_path / "bad", first)


def _csr() -> str:
    return csr.make(certificate.new_key())


async def _status(asked: client.Place, body: dict[str, str]) -> int:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=asked.ssl)) as session,
        session.post(f"https://{asked.addresses[0]}/v1/sign", json=body, server_hostname="peer.mesh.local") as answer,
    ):
        return answer.status


async def _post(asked: client.Place, path: str, body: dict[str, str]) -> dict[str, str]:
    async with (
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=asked.ssl)) as session,
        session.post(f"https://{asked.addresses[0]}{path}", json=body, server_hostname="peer.mesh.local") as answer,
    ):
        found: dict[str, str] = json.loads(await answer.text())
        return found
