"""Certificates of a host, asked of a real authority: obtained, renewed, kept on disk, revoked, forgotten."""

import msgspec

from meshd.control.identity import Attempt, Identities
from registry.ca import bundle, certificate, files
from registry.errors import Unavailable
from registry.model import InstanceKey
from tests.unit.meshd.conftest import Single, until

KEY = InstanceKey("web", "a", "web-1")


async def registered(single: Single) -> None:
    await single.register(Name="web", ID="web-1", Port=80)
    await until("certificate", lambda: str(KEY) in single.agent.identities.certificates)


def again(single: Single) -> Identities:
    """The same host after a restart, with nobody to ask."""
    return Identities(files.Layout(single.host.data), "a", ("127.0.0.1:1",), single.log, single.agent.around.now,
                      lambda: 0.5)  # fmt: skip


async def test_a_restart_serves_from_disk(single: Single) -> None:
    await registered(single)
    identities = again(single)
    identities.follow([KEY], [])
    assert [one.name for one in identities.resources()] == [str(KEY)]
    assert identities.trust().roots
    assert identities.missing() == ()


async def test_due_certificates_are_renewed_with_a_new_key(single: Single) -> None:
    await registered(single)
    identities = single.agent.identities
    before = identities.certificates[str(KEY)]
    identities.certificates[str(KEY)] = msgspec.structs.replace(before, renew_at=0.0)
    identities._work.set()
    await until("renewed", lambda: identities.certificates[str(KEY)].svid.serial != before.svid.serial)
    assert identities.certificates[str(KEY)].credentials.key_pem != before.credentials.key_pem
    held = single.held(f"identity/{KEY}")
    assert held is not None
    await until("sent", lambda: (single.held(f"identity/{KEY}") or {})["certificate"] != before.credentials.chain_pem)


async def test_node_and_role_are_renewed_too(single: Single) -> None:
    identities = single.agent.identities
    before = {name: identities.certificates[name].svid.serial for name in ("node", "role")}
    for name in before:
        identities.certificates[name] = msgspec.structs.replace(identities.certificates[name], renew_at=0.0)
    identities._work.set()
    await until("renewed", lambda: all(identities.certificates[n].svid.serial != s for n, s in before.items()))
    assert identities.identify(identities.certificates["node"].credentials.leaf.public_bytes(DER)) == "a"


async def test_a_refusal_is_named_and_tried_again_later(single: Single) -> None:
    host = single.host
    layout = files.Layout(host.data)
    authority = (f"{host.bind.peer}:{host.ports.peer}",)
    identities = Identities(layout, "a", authority, single.log, single.agent.around.now, lambda: 0.5)
    other = InstanceKey("web", "a", "never-registered")
    identities.follow([other], [other])
    single.agent.tasks.start("other identities", identities.run)
    attempt: Attempt = await until("refused", lambda: identities._attempts.get(str(other)))
    assert "not registered" in identities.missing()[0]
    assert attempt.at > single.agent.around.now() - 1


async def test_an_authority_that_is_away_is_an_error_only_once_while_life_is_left(single: Single) -> None:
    identities = again(single)
    for _ in range(3):
        identities._failed("node", Unavailable("away"))
    assert [event for event in single.log.errors() if event == "certificate cannot be had"] == [
        "certificate cannot be had"
    ]
    assert identities._attempts["node"].failures == 3


async def test_a_deregistered_instances_key_is_removed(single: Single) -> None:
    await registered(single)
    pair = files.Layout(single.host.data).service("web", "web-1")
    assert pair.key.exists()
    single.agent.identities.follow([], [])
    assert not pair.key.exists()
    assert single.agent.identities.resources() == ()


async def test_revocations_are_in_the_trust_and_bar_a_node(single: Single) -> None:
    identities = single.agent.identities
    der = identities.certificates["node"].credentials.leaf.public_bytes(DER)
    assert identities.identify(der) == "a"
    assert identities.identify(b"garbage") is None
    serial = identities.certificates["node"].svid.serial
    values = {"1": b'{"Serial": "%s"}' % serial.encode(), "2": b"garbage"}
    assert identities.learn({}, values)
    assert [one.serial for one in identities.trust().revoked] == [serial]
    assert identities.identify(der) is None
    assert "revocation cannot be read" in single.log.events()
    assert not identities.learn({}, values)


async def test_a_further_root_counts_only_when_a_trusted_one_signed_it(single: Single) -> None:
    identities, layout = single.agent.identities, files.Layout(single.host.data)
    key = certificate.new_key()
    lifetimes = certificate.Lifetimes()
    root = certificate.root(key, "mesh.local", certificate.window(single.agent.around.now(), lifetimes.root))
    assert not identities.learn({"x": bundle.publish(root)}, {})
    old = files.load(layout.root)
    assert identities.learn({"x": bundle.sign("add", root, old.leaf, old.key)}, {})
    assert len(identities.roots) == 2
    assert len(files.read_certificates(layout.roots)) == 2


async def test_the_entitlement_is_that_of_the_node_certificate(single: Single) -> None:
    assert single.agent.identities.entitled("anything")  # `ca init` grants the first host `*`
    assert single.agent.identities.node_valid()


DER = files.bundle.Encoding.DER
