"""Documents in force: last good kept, also over a restart; the history as the last resort."""

from pathlib import Path

from meshd.control import history
from meshd.control.documents import Documents
from registry.model import Document
from tests.fakes.store import MemoryStore

NAME = ("service-defaults", "api")
HTTP, TCP, BAD = b"Protocol: http\n", b"Protocol: tcp\n", b"Protokol: http\n"


def doc(text: bytes, version: int) -> Document:
    return Document(kind=NAME[0], name=NAME[1], text=text, version=version)


def current(text: bytes, version: int) -> dict[tuple[str, str], Document]:
    return {NAME: doc(text, version)}


def test_a_good_document_is_in_force(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "d")
    assert documents.update(current(HTTP, 5)) == {NAME}
    assert documents.good[NAME].version == 5
    assert documents.in_force()["service-defaults/api"].version == 5
    assert documents.update(current(HTTP, 5)) == frozenset()


def test_a_bad_version_keeps_the_last_good_one(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "d")
    documents.update(current(HTTP, 5))
    documents.update(current(BAD, 6))
    assert documents.good[NAME].version == 5
    assert documents.rejected[NAME].version == 6
    assert "Protocol" in documents.refused()["service-defaults/api"].problems[0]
    assert documents.unreadable == frozenset()
    documents.update(current(TCP, 7))
    assert documents.rejected == {}
    assert documents.good[NAME].version == 7


def test_a_deleted_document_is_the_default_again(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "d")
    documents.update(current(HTTP, 5))
    assert documents.update({}) == {NAME}
    assert documents.good == {}
    assert documents.in_force() == {}


def test_the_last_good_version_outlives_a_restart(tmp_path: Path) -> None:
    before = Documents(tmp_path / "d")
    before.update(current(HTTP, 5))
    before.save()
    after = Documents(tmp_path / "d")
    assert after.load() == ""
    assert after.remembered()[NAME].version == 5  # in force while the registry is away
    assert after.good == {}
    after.update(current(BAD, 6))
    assert after.good[NAME].version == 5
    assert after.unreadable == frozenset()


def test_a_deleted_documents_saved_version_does_not_come_back(tmp_path: Path) -> None:
    before = Documents(tmp_path / "d")
    before.update(current(HTTP, 5))
    before.save()
    after = Documents(tmp_path / "d")
    after.load()
    after.update({})
    assert after.good == {}


def test_an_unreadable_file_is_reported(tmp_path: Path) -> None:
    (tmp_path / "d").write_text("{")
    assert str(tmp_path / "d") in Documents(tmp_path / "d").load()


async def test_the_newest_valid_version_of_the_history(tmp_path: Path, store: MemoryStore) -> None:
    for text, version in ((HTTP, 3), (TCP, 4), (BAD, 5)):
        await history.write(store, doc(text, version), "ada", 0.0)
    documents = Documents(tmp_path / "d")
    documents.update(current(BAD, 5))
    assert documents.unreadable == {NAME}
    listing = await store.list(history.prefix(*NAME))
    assert documents.from_history(NAME, listing.entries)
    assert documents.good[NAME].version == 4
    assert documents.unreadable == frozenset()
    assert not documents.from_history(NAME, listing.entries)  # there is a good one now


def test_no_valid_version_anywhere_stays_unreadable(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "d")
    documents.update(current(BAD, 5))
    assert not documents.from_history(NAME, ())
    assert documents.unreadable == {NAME}


def test_accepted_texts_are_those_in_force(tmp_path: Path) -> None:
    documents = Documents(tmp_path / "d")
    documents.update(current(HTTP, 5))
    documents.update(current(BAD, 6))
    assert documents.accepted() == (doc(HTTP, 5),)
