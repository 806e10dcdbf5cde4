"""One certificate: in a log before anybody holds it."""

from pathlib import Path
from typing import cast

import pytest

from registry.ca import bundle, certificate, files, names
from registry.ca.certificate import Signer
from registry.ca.issuance import Issuance, Order
from registry.ca.journal import Journal
from registry.ca.svid import Svid, read
from registry.errors import Unavailable
from registry.store import Store
from tests.fakes.authority import MemoryStore, world

NOW = 1_700_000_000.0


def desk(path: Path) -> tuple[Issuance, MemoryStore, Journal]:
    made = world(path, now=NOW)
    held = files.load(made.layout.issuer)
    book = Journal(made.layout.journal)
    return Issuance(Signer(held.leaf, held.key), "a", cast(Store, made.store), book), made.store, book


def order(not_before: float = 0.0) -> Order:
    identity = names.service("mesh.local", "api", "b", "1")
    return Order(identity, certificate.new_key().public_key(), "sign", not_before=not_before)


async def test_online_is_logged_in_the_store(tmp_path: Path) -> None:
    made, store, book = desk(tmp_path)
    signed = await made.online(order(), NOW)
    assert [key.rpartition("/")[2] for key in store.entries] == [signed.serial]
    assert book.read() == ()
    assert not signed.offline


async def test_no_log_no_certificate(tmp_path: Path) -> None:
    made, store, book = desk(tmp_path)
    store.away = True
    with pytest.raises(Unavailable):
        await made.online(order(), NOW)
    assert book.read() == ()


async def test_offline_is_logged_on_disk(tmp_path: Path) -> None:
    made, store, book = desk(tmp_path)
    held: Svid = read(bundle.read_pem((await made.online(order(), NOW)).chain.encode())[0], "mesh.local")
    store.away = True
    signed = await made.offline(order(), held, NOW)
    assert [item.serial for item in book.pending()] == [signed.serial]
    assert signed.not_after == held.not_after


async def test_nothing_is_dated_before_a_revocation(tmp_path: Path) -> None:
    made, _, _ = desk(tmp_path)
    signed = await made.online(order(not_before=NOW - 5), NOW)
    assert read(bundle.read_pem(signed.chain.encode())[0], "mesh.local").not_before == NOW - 5
