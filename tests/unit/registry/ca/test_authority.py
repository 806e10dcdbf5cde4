"""Who gets which certificate: entitlement, registration, revocation, and what holds while the store is away."""

import asyncio
from pathlib import Path

import pytest

from registry import keys
from registry.ca import bundle, certificate, csr, entitlement, files, journal, svid
from registry.ca.authority import FILL_EVERY
from registry.ca.certificate import BACKDATE, DAY, Lifetimes
from registry.ca.entitlement import Entitlement
from registry.ca.init import refresh
from registry.ca.issuance import Signed
from registry.ca.svid import Svid
from registry.errors import Corrupt, Denied, NotFound, Unavailable
from tests.fakes.authority import World, world

NOW = 1_700_000_000.0
HOUR = 3600.0


@pytest.fixture
def made(tmp_path: Path) -> World:
    return world(tmp_path, now=NOW)


def request() -> str:
    return csr.make(certificate.new_key())


def read(signed: Signed) -> Svid:
    return svid.read(bundle.read_pem(signed.chain.encode())[0], "mesh.local")


async def node(made: World, name: str = "b", services: tuple[str, ...] = ("api",), roles: tuple[str, ...] = ()) -> Svid:
    authority = made.authority()
    token = authority.join_token(name, Entitlement(services=services, roles=roles), HOUR)
    return read(await authority.join(token, request(), "test"))


async def test_join_records_the_token_before_the_certificate(made: World) -> None:
    caller = await node(made)
    assert caller.identity.uri == "spiffe://mesh.local/node/b"
    assert entitlement.decode(caller.certificate) == Entitlement(services=("api",))
    assert caller.not_before == NOW - BACKDATE
    assert caller.not_after == NOW + 30 * DAY
    used = [entry for key, entry in made.store.entries.items() if key.startswith(keys.CA_TOKENS_USED)]
    issued = [entry for key, entry in made.store.entries.items() if key.startswith(keys.CA_ISSUED)]
    assert len(used) == len(issued) == 1
    assert used[0].created < issued[0].created
    assert issued[0].key == f"{keys.CA_ISSUED}2023-11-14/{caller.serial}"


async def test_join_needs_the_store(made: World) -> None:
    authority = made.authority()
    token = authority.join_token("b", Entitlement(), HOUR)
    made.store.away = True
    with pytest.raises(Unavailable):
        await authority.join(token, request(), "test")
    made.store.away = False
    assert read(await authority.join(token, request(), "test")).identity.node == "b"


async def test_a_bad_request_does_not_use_the_token_up(made: World) -> None:
    authority = made.authority()
    token = authority.join_token("b", Entitlement(), HOUR)
    with pytest.raises(Denied, match="certificate request"):
        await authority.join(token, "garbage", "test")
    assert await authority.join(token, request(), "test")


async def test_services_registered_by_this_node(made: World) -> None:
    caller, authority = await node(made), made.authority()
    with pytest.raises(Denied, match="register it first"):
        await authority.sign_service(caller, "api", "1", request())
    made.register("api", "b", "1")
    signed = read(await authority.sign_service(caller, "api", "1", request()))
    assert signed.identity.uri == "spiffe://mesh.local/svc/api/n/b/i/1"
    assert signed.not_after == NOW + 7 * DAY
    with pytest.raises(Denied, match="not entitled to service 'web'"):
        await authority.sign_service(caller, "web", "1", request())
    with pytest.raises(Denied, match="certificate request"):
        await authority.sign_service(caller, "api", "1", "x")
    with pytest.raises(Denied, match="id"):
        await authority.sign_service(caller, "api", "..", request())


async def test_withdrawn_instances_get_nothing(made: World) -> None:
    caller = await node(made)
    made.register("api", "b", "1")
    found = made.instances[("api", "b", "1")]
    made.instances[("api", "b", "1")] = type(found)(
        service="api", node="b", id="1", address="127.0.0.1", port=1, state="withdrawn"
    )
    with pytest.raises(Denied, match="withdrawn"):
        await made.authority().sign_service(caller, "api", "1", request())


async def test_roles_need_their_entitlement(made: World) -> None:
    authority = made.authority()
    with pytest.raises(Denied, match="not entitled to role 'registry'"):
        await authority.sign_role(await node(made), "registry", request())
    entitled = await node(made, "c", roles=("registry",))
    signed = read(await authority.sign_role(entitled, "registry", request()))
    assert signed.identity.uri == "spiffe://mesh.local/role/registry/c"


async def test_only_valid_nodes_ask(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    service = read(await authority.sign_service(caller, "api", "1", request()))
    with pytest.raises(Denied, match="only nodes"):
        await authority.renew_node(service, request())
    made.clock.now += 31 * DAY
    with pytest.raises(Denied, match=r"expired at .*, but the authority's clock says"):
        await authority.renew_node(caller, request())


async def test_an_entitlement_that_cannot_be_read_is_none(made: World, monkeypatch: pytest.MonkeyPatch) -> None:
    caller, authority = await node(made), made.authority()

    def unreadable(_: object) -> Entitlement:
        raise entitlement.BadEntitlement("odd")

    monkeypatch.setattr(entitlement, "decode", unreadable)
    with pytest.raises(Denied, match="odd"):
        await authority.renew_node(caller, request())


async def test_renewal_keeps_the_entitlement(made: World) -> None:
    caller = await node(made)
    made.clock.now += 7 * DAY
    renewed = read(await made.authority().renew_node(caller, request()))
    assert entitlement.decode(renewed.certificate) == Entitlement(services=("api",))
    assert renewed.not_after == NOW + 37 * DAY


# ---- revocation -------------------------------------------------------------------------------------------------


async def revoke(made: World, text: str) -> None:
    await made.store.put(keys.REVOCATIONS + "1", text.encode())


async def test_revoked_nodes_get_nothing_more(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    await revoke(made, f'{{"Serial": "{caller.serial}", "Reason": "stolen disk"}}')
    with pytest.raises(Denied, match=r"revoked \(stolen disk\)"):
        await authority.renew_node(caller, request())
    with pytest.raises(Denied, match="revoked"):
        await authority.sign_service(caller, "api", "1", request())


async def test_revoked_for_good_cannot_join(made: World) -> None:
    await revoke(made, '{"Identity": "spiffe://mesh.local/node/b"}')
    with pytest.raises(Denied, match="revoked for good: remove"):
        await node(made)


async def test_a_host_that_was_revoked_until_now_joins_anew_and_is_not_backdated(made: World) -> None:
    caller = await node(made)
    made.clock.now += HOUR
    await revoke(made, 'Identity: spiffe://mesh.local/node/b\nFrom: "2023-11-14T23:13:20Z"\n')
    with pytest.raises(Denied, match="revoked"):
        await made.authority().renew_node(caller, request())
    again = await node(made)
    assert again.not_before == NOW + HOUR
    assert read(await made.authority().renew_node(again, request())).identity == again.identity


async def test_revoked_instances(made: World) -> None:
    caller = await node(made)
    made.register("api", "b", "1")
    await revoke(made, '{"Identity": "spiffe://mesh.local/svc/api/n/b/i/1", "From": "2030-01-01T00:00:00Z"}')
    with pytest.raises(Denied, match="revoked until 2030"):
        await made.authority().sign_service(caller, "api", "1", request())


async def test_an_unreadable_revocation_is_loud_and_hides_no_other(
    made: World, caplog: pytest.LogCaptureFixture
) -> None:
    caller = await node(made)
    await made.store.put(keys.REVOCATIONS + "0", b"???")
    await revoke(made, f'{{"Serial": "{caller.serial}"}}')
    with pytest.raises(Denied, match="revoked"):
        await made.authority().renew_node(caller, request())
    assert any(record.__dict__.get("key") == keys.REVOCATIONS + "0" for record in caplog.records)


# ---- without the store ------------------------------------------------------------------------------------------


async def test_offline_renewal_never_shortens_and_adds_at_most_a_day(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    held = await authority.sign_service(caller, "api", "1", request())
    made.store.away = True
    signed = await authority.sign_service(caller, "api", "1", request(), held.chain)
    assert signed.offline
    assert signed.not_after == held.not_after
    made.clock.now += 6.5 * DAY
    signed = await authority.sign_service(caller, "api", "1", request(), held.chain)
    assert signed.not_after == made.clock.now + DAY
    signed = await authority.renew_node(caller, request())
    assert signed.offline
    assert signed.not_after == caller.not_after


async def test_days_without_a_store(made: World) -> None:
    """registry down for days: renewals by the authority alone, logged, and filled in when it is back."""
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    held = await authority.sign_service(caller, "api", "1", request())
    made.store.away = True
    for _ in range(20):
        made.clock.now += 0.7 * DAY
        held = await authority.sign_service(caller, "api", "1", request(), held.chain)
    with pytest.raises(Unavailable):
        await authority.fill()
    made.store.away = False
    before = len(made.store.entries)
    assert await authority.fill() == 20
    assert await authority.fill() == 0
    assert len(made.store.entries) == before + 20
    assert any(key.endswith("/" + held.serial) for key in made.store.entries)


async def test_filling_survives_a_torn_write_and_a_foreign_entry(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.store.away = True
    signed = await authority.renew_node(caller, request())
    made.store.away, made.store.torn = False, True
    with pytest.raises(Unavailable):
        await authority.fill()
    made.store.torn = False
    assert await made.authority().fill() == 1
    made.store.away = True
    signed = await authority.renew_node(caller, request())
    made.store.away = False
    await made.store.put(f"{keys.CA_ISSUED}2023-11-14/{signed.serial}", b"somebody's")
    assert await authority.fill() == 1


async def test_without_the_store_nothing_new(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    made.register("api", "b", "2")
    held = await authority.sign_service(caller, "api", "1", request())
    made.store.away = True
    with pytest.raises(Unavailable, match="only renewals against a certificate that is still valid"):
        await authority.sign_service(caller, "api", "2", request())
    with pytest.raises(Denied, match="does not renew"):
        await authority.sign_service(caller, "api", "2", request(), held.chain)
    other = await _joined_before(made, "c")
    with pytest.raises(Denied, match="does not renew"):
        await authority.sign_service(other, "api", "1", request(), held.chain)
    with pytest.raises(Denied, match="certificate held"):
        await authority.sign_service(caller, "api", "1", request(), "garbage")
    made.clock.now += 8 * DAY
    with pytest.raises(Denied, match=r"certificate held.*clock says"):
        await authority.sign_service(caller, "api", "1", request(), held.chain)


async def _joined_before(made: World, name: str) -> Svid:
    made.store.away = False
    caller = await node(made, name)
    made.store.away = True
    return caller


async def test_roles_are_renewed_without_the_store(made: World) -> None:
    caller, authority = await node(made, "c", roles=("registry",)), made.authority()
    held = await authority.sign_role(caller, "registry", request())
    made.store.away = True
    assert (await authority.sign_role(caller, "registry", request(), held.chain)).offline


async def test_an_old_certificate_is_no_obstacle_while_the_store_answers(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.register("api", "b", "1")
    held = await authority.sign_service(caller, "api", "1", request())
    made.clock.now += 10 * DAY
    assert not (await authority.sign_service(caller, "api", "1", request(), held.chain)).offline


async def test_revocations_seen_last_count_while_the_store_is_away(made: World) -> None:
    caller = await node(made)
    await revoke(made, f'{{"Serial": "{caller.serial}"}}')
    with pytest.raises(Denied):
        await made.authority().renew_node(caller, request())
    made.store.away = True
    with pytest.raises(Denied, match="revoked"):
        await made.authority().renew_node(caller, request())


async def test_an_authority_that_never_saw_revocations_renews_nothing_offline(made: World) -> None:
    caller = await node(made)
    made.layout.revocations.unlink()
    made.store.away = True
    with pytest.raises(Unavailable, match="never seen"):
        await made.authority().renew_node(caller, request())


async def test_a_full_disk_stops_offline_renewals_but_no_refusal(made: World, caplog: pytest.LogCaptureFixture) -> None:
    caller, authority = await node(made), made.authority()
    made.layout.journal.unlink(missing_ok=True)
    made.layout.journal.mkdir()
    with pytest.raises(Denied, match="not entitled"):
        await authority.sign_service(caller, "web", "1", request())
    assert "refusal not journalled" in caplog.text
    made.store.away = True
    with pytest.raises(Unavailable, match="journal"):
        await authority.renew_node(caller, request())


# ---- exchange ---------------------------------------------------------------------------------------------------


async def joined_with_key(made: World) -> files.Credentials:
    key, authority = certificate.new_key(), made.authority()
    token = authority.join_token("b", Entitlement(services=("api",)), HOUR)
    signed = await authority.join(token, csr.make(key), "test")
    return files.Credentials(key, bundle.read_pem(signed.chain.encode()))


@pytest.mark.parametrize("days", [1, 31, 119])
async def test_a_host_that_slept_exchanges_with_its_key(made: World, days: int) -> None:
    held = await joined_with_key(made)
    made.clock.now += days * DAY
    signed = read(await made.authority().exchange(held.chain_pem, csr.make(held.key), "test"))
    assert signed.identity.node == "b"
    assert entitlement.decode(signed.certificate) == Entitlement(services=("api",))
    assert signed.not_after == made.clock.now + 30 * DAY


async def test_exchange_refusals(made: World, tmp_path: Path) -> None:
    held, authority = await joined_with_key(made), made.authority()
    with pytest.raises(Denied, match="with its own key"):
        await authority.exchange(held.chain_pem, request(), "test")
    role = files.load(made.layout.role)
    with pytest.raises(Denied, match="only a node certificate"):
        await authority.exchange(role.chain_pem, csr.make(role.key), "test")
    foreign = files.load(world(tmp_path / "foreign", now=NOW).layout.node)
    for chain, key in ((foreign.chain_pem, foreign.key), ("", held.key), ("-----BEGIN", held.key)):
        with pytest.raises(Denied, match="certificate held"):
            await authority.exchange(chain, csr.make(key), "test")
    made.store.away = True
    with pytest.raises(Unavailable):
        await authority.exchange(held.chain_pem, csr.make(held.key), "test")
    made.store.away = False
    leaf = svid.read(held.leaf, "mesh.local")
    await revoke(made, f'{{"Serial": "{leaf.serial}"}}')
    with pytest.raises(Denied, match="revoked"):
        await authority.exchange(held.chain_pem, csr.make(held.key), "test")
    made.clock.now += 121 * DAY
    with pytest.raises(Denied, match="too long ago: join again"):
        await authority.exchange(held.chain_pem, csr.make(held.key), "test")


# ---- upkeep -----------------------------------------------------------------------------------------------------


async def test_a_renewed_issuer_signs_after_reload_and_tokens_stay_good(made: World) -> None:
    authority = made.authority()
    made.clock.now += 200 * DAY
    token = authority.join_token("b", Entitlement(), HOUR)
    assert refresh(made.layout, made.clock.now)
    authority.reload()
    signed = await authority.join(token, request(), "test")
    chain = bundle.read_pem(signed.chain.encode())
    assert chain[1] == files.load(made.layout.issuer).leaf
    assert svid.verify(chain, authority.roots, "mesh.local", made.clock.now)


async def test_certificates_never_outlive_the_issuer(made: World) -> None:
    caller, authority = await node(made), made.authority()
    end = NOW + 365 * DAY
    made.clock.now = NOW + 29 * DAY
    for _ in range(13):
        caller = read(await authority.renew_node(caller, request()))
        made.clock.now += 25 * DAY
    assert caller.not_after <= end


async def test_run_fills_for_ever(made: World) -> None:
    caller, authority = await node(made), made.authority()
    made.store.away = True
    await authority.renew_node(caller, request())
    pauses: list[float] = []

    async def pause(seconds: float) -> None:
        pauses.append(seconds)
        made.store.away = False
        if len(pauses) == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await authority.run(pause)
    assert pauses == [FILL_EVERY, FILL_EVERY]
    assert journal.Journal(made.layout.journal).pending() == ()


async def test_short_lifetimes_for_compressed_time(tmp_path: Path) -> None:
    made = world(tmp_path, now=NOW)
    made.lifetimes = Lifetimes(service=30, node=60, offline=10)
    caller = await node(made)
    assert caller.not_after == NOW + 60


def test_missing_or_open_files_are_named(made: World, tmp_path: Path) -> None:
    made.layout.issuer.key.chmod(0o644)
    with pytest.raises(Denied, match="chmod 600"):
        made.authority()
    made.layout.issuer.key.chmod(0o600)
    made.layout.issuer.certificate.write_bytes(made.layout.root.certificate.read_bytes())
    with pytest.raises(Corrupt, match="does not belong"):
        made.authority()
    made.layout.issuer.certificate.unlink()
    with pytest.raises(NotFound, match=r"issuer\.crt does not exist"):
        made.authority()
