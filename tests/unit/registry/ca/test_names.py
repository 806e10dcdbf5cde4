"""SPIFFE names: what is built is what is read, and nothing else is read."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry.ca import names
from registry.model import InstanceKey

NAME = st.from_regex(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,30}\Z", fullmatch=True)


@given(NAME, NAME, NAME)
def test_service_names_round_trip(service: str, node: str, instance_id: str) -> None:
    uri = names.service_id("mesh.local", service, node, instance_id)
    identity = names.read(uri)
    assert identity.uri == uri == str(identity)
    assert identity.key == InstanceKey(service, node, instance_id)


def test_the_three_kinds() -> None:
    assert names.service_id("td", "web", "a", "web-1") == "spiffe://td/svc/web/n/a/i/web-1"
    assert names.node_id("td", "a") == "spiffe://td/node/a"
    assert names.role_id("td", "ca", "a") == "spiffe://td/role/ca/a"
    assert names.read("spiffe://td/role/registry/a").role == "registry"
    assert names.read("spiffe://td/node/a").kind == "node"


def test_only_services_have_an_instance_key() -> None:
    with pytest.raises(names.BadName):
        _ = names.node("td", "a").key


@pytest.mark.parametrize(
    "uri",
    [
        "",
        "http://td/node/a",
        "SPIFFE://td/node/a",
        "spiffe:///node/a",
        "spiffe://TD/node/a",
        "spiffe://td./node/a",
        "spiffe://td:443/node/a",
        "spiffe://user@td/node/a",
        "spiffe://td/node/a/",
        "spiffe://td//node/a",
        "spiffe://td/node/",
        "spiffe://td/node/..",
        "spiffe://td/node/.",
        "spiffe://td/node/a?x=1",
        "spiffe://td/node/a#x",
        "spiffe://td/node/a%61",
        "spiffe://td/node/a\x00",
        "spiffe://td/node/a\n",
        "spiffe://td/node/\u00e4",
        "spiffe://td/node/\ud800",
        "spiffe://td",
        "spiffe://td/",
        "spiffe://td/other/a",
        "spiffe://td/role/root/a",
        "spiffe://td/svc/web/n/a",
        "spiffe://td/svc/web/n/a/i/",
        "spiffe://td/svc/web/x/a/i/1",
        "spiffe://td/svc/web/n/a/i/1/more",
        "spiffe://td/node/" + "a" * 2049,
        "spiffe://" + "a" * 64 + "/node/a",
    ],
)
def test_what_is_no_name_is_refused(uri: str) -> None:
    assert names.parse(uri) is None
    with pytest.raises(names.BadName):
        names.read(uri)


def test_trust_domains_that_look_alike_stay_apart() -> None:
    """ISTIO CVE-2026-39350's class: names are compared whole."""
    one, other = names.read("spiffe://td/node/a.b"), names.read("spiffe://td.evil/node/a.b")
    assert one != other
    assert one != names.read("spiffe://td/node/a-b")


def test_sni_is_one_short_label_of_the_whole_identity() -> None:
    sni = names.sni(names.service_id("td", "web", "a", "1"))
    assert sni.startswith("i-")
    assert sni.endswith(".mesh")
    assert len(sni) == 2 + 32 + 5
    assert sni != names.sni(names.service_id("td", "web", "a", "2"))
    assert names.sni("spiffe://mesh.local/svc/web/n/a/i/web-1") == "i-e990e5ad25347028b0043a4d626392e3.mesh"


def test_peer_name_of_the_longest_trust_domain_is_a_dns_name() -> None:
    longest = ".".join(["a" * 61] * 3 + ["b" * 61])
    assert len(longest) == 247
    assert names.valid_trust_domain(longest)
    assert not names.valid_trust_domain(longest + "b")
    assert len(names.peer_name(longest)) <= 253
