"""Tokens: one spelling, one authority, one time span."""

import base64
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from registry.ca import files, token
from registry.ca.certificate import Signer
from registry.ca.entitlement import Entitlement
from registry.errors import Denied
from tests.fakes.authority import World, world

ALPHABET = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_.=+/ \n"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> World:
    return world(tmp_path_factory.mktemp("ca"), now=1_000_000.0)


@pytest.fixture(scope="module")
def signer(made: World) -> Signer:
    held = files.load(made.layout.issuer)
    return Signer(held.leaf, held.key)


def check(text: str, signer: Signer, domain: str = "mesh.local", now: float = 1_000_000.0) -> token.Claims:
    return token.verify(text, [signer.certificate], domain, now)


def claims(signer: Signer, **changed: object) -> token.Join:
    made = token.Join(
        id="0" * 32,
        issuer=token.issuer_id(signer.certificate),
        trust_domain="mesh.local",
        expires=1_000_060,
        node="b",
        services=("api", "web"),
    )
    return msgspec.structs.replace(made, **changed)


def test_a_token_says_what_was_signed(made: World, signer: Signer) -> None:
    read = check(made.authority().join_token("b", Entitlement(services=("api",), roles=("registry",)), 60), signer)
    assert isinstance(read, token.Join)
    assert (read.node, read.grant) == ("b", Entitlement(services=("api",), roles=("registry",)))
    assert read.expires == 1_000_060


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300)
@given(st.data())
def test_any_mutation_is_refused(signer: Signer, data: st.DataObject) -> None:
    text = token.sign(claims(signer), signer)
    at = data.draw(st.integers(0, len(text) - 1))
    kind = data.draw(st.sampled_from(["change", "insert", "delete", "swap", "cut"]))
    letter = data.draw(st.sampled_from(ALPHABET))
    other = {
        "change": text[:at] + letter + text[at + 1 :],
        "insert": text[:at] + letter + text[at:],
        "delete": text[:at] + text[at + 1 :],
        "swap": text[:at] + text[at : at + 2][::-1] + text[at + 2 :],
        "cut": text[:at],
    }[kind]
    if other != text:
        with pytest.raises(token.BadToken):
            check(other, signer)


@given(st.text(max_size=200))
def test_no_text_breaks_the_reader(text: str) -> None:
    with pytest.raises(token.BadToken):
        token.verify(text, [], "mesh.local", 0.0)


@given(st.binary(max_size=120))
def test_no_contents_break_the_reader(data: bytes) -> None:
    text = "mesh1." + (base64.urlsafe_b64encode(data).rstrip(b"=").decode() or "A") + "." + "A" * 86
    with pytest.raises(token.BadToken):
        token.verify(text, [], "mesh.local", 0.0)


def test_the_other_spelling_of_a_signature_is_refused(signer: Signer) -> None:
    """ECDSA: (r, n - s) verifies too; accepted, one token would have two texts."""
    head, payload, signature = token.sign(claims(signer), signer).split(".")
    raw = base64.urlsafe_b64decode(signature + "==")
    other = raw[:32] + (token._ORDER - int.from_bytes(raw[32:])).to_bytes(32)
    text = f"{head}.{payload}.{base64.urlsafe_b64encode(other).rstrip(b'=').decode()}"
    with pytest.raises(token.BadToken, match="not signed"):
        check(text, signer)


def test_contents_in_another_order_are_refused(signer: Signer) -> None:
    payload = msgspec.json.encode(claims(signer))
    forged = f"mesh1.{base64.urlsafe_b64encode(payload).rstrip(b'=').decode()}.{'A' * 86}"
    with pytest.raises(token.BadToken, match="canonical"):
        check(forged, signer)


def test_foreign_domain_and_end_are_refused(signer: Signer) -> None:
    text = token.sign(claims(signer), signer)
    with pytest.raises(token.BadToken, match="trust domain"):
        check(text, signer, domain="mesh.local.evil")
    with pytest.raises(token.BadToken, match="expired at 1970-01-12T13:47:40Z, the authority's clock says"):
        check(text, signer, now=1_000_060.0)
    with pytest.raises(token.BadToken, match="not signed"):
        token.verify(text, [], "mesh.local", 1_000_000.0)


@pytest.mark.parametrize(
    "changed",
    [
        {"id": "../x"},
        {"id": "A" * 32},
        {"node": "a/b"},
        {"node": ""},
        {"services": ("a b",)},
        {"services": ("**",)},
        {"roles": ("root",)},
        {"services": tuple(f"s{n}" for n in range(300))},
    ],
)
def test_bad_claims_are_not_signed_and_not_believed(
    signer: Signer, changed: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = claims(signer, **changed)
    with pytest.raises(token.BadToken):
        token.sign(bad, signer)
    with monkeypatch.context() as older:  # an authority that looked less closely
        older.setattr(token, "refusal", lambda _: None)
        text = token.sign(bad, signer)
    with pytest.raises(token.BadToken):
        check(text, signer)


def test_operators(made: World, signer: Signer) -> None:
    authority = made.authority()
    text = authority.operator_token("ann", 60)
    assert authority.verify_operator(text) == "ann"
    elsewhere = token.Operators("mesh.local", [signer.certificate])
    assert elsewhere.verify(text, 1_000_000.0) == "ann"
    assert elsewhere.verify(text, 1_000_061.0) is None
    assert elsewhere.verify(authority.join_token("b", Entitlement(), 60), 1_000_000.0) is None
    assert elsewhere.verify("", 0.0) is None


def test_bad_orders_for_tokens(made: World) -> None:
    authority = made.authority()
    for ttl in (0, -1, 31 * 86400):
        with pytest.raises(Denied, match="days"):
            authority.operator_token("ann", ttl)
    with pytest.raises(Denied, match="name"):
        authority.operator_token("a b", 60)
    with pytest.raises(Denied, match="node"):
        authority.join_token("..", Entitlement(), 60)


def test_token_of_another_authority(made: World, tmp_path: Path) -> None:
    other = world(tmp_path, now=1_000_000.0).authority()
    assert made.authority().verify_operator(other.operator_token("ann", 60)) is None
