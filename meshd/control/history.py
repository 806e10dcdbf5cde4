"""`history/<kind>/<name>/<doc_version>`: every accepted version of a document, with who and when; create-only.

`meshctl apply` writes the entry of what it applied; the host with the registry role writes those of documents that
came by any other way (a plain KV put), a moment later so that the one who knows the author is first.
"""

import asyncio
import contextlib
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Protocol

import msgspec

from registry import keys
from registry.change import Verdict
from registry.errors import Conflict, RegistryError
from registry.model import Document
from registry.store import Entry, Op, Store

LATER = 2.0  # seconds that an applying meshctl has to write its own entry
UNKNOWN = "unknown (written to the store directly)"


class Past(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The stored value. `text` is the document as written; what is no UTF-8 is never accepted, so never here."""

    at: str
    who: str
    text: str


class Deletion(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """The value of `history/<kind>/<name>/deleted`: what is to be made of a deletion of versions up to this one.

    meant: `meshctl` did it; of what other tools did a host with a role says what it has found: believed, or held
    (too much went at once). It sees all policy; most hosts see what they use.
    """

    at: str
    who: str
    version: int
    verdict: Verdict = "meant"


class Log(Protocol):
    def warning(self, event: str, **fields: object) -> None: ...


async def write(store: Store, document: Document, who: str, now: float) -> None:
    """Record one accepted version; one that is recorded already stays as it is. Raises as `Store.put`."""
    value = msgspec.json.encode(Past(at=_stamp(now), who=who, text=document.text.decode()))
    with contextlib.suppress(Conflict):
        await store.put(keys.history(document.kind, document.name, document.version), value, expect=0)


def deletion(
    document: tuple[str, str],
    version: int,
    who: str,
    now: float,
    verdict: Verdict = "meant",
    *,
    expect: int | None = None,
) -> Op:
    """What belongs into the transaction that deletes a document, so that every host can see that it was meant."""
    value = msgspec.json.encode(Deletion(at=_stamp(now), who=who, version=version, verdict=verdict))
    return Op(key=keys.deletion(*document), value=value, expect=expect)


async def verdict(store: Store, document: tuple[str, str], version: int) -> tuple[Verdict | None, int]:
    """What is to be made of the deletion of this version (None: nobody has said), and the version of the key that
    says so, 0: there is none. Raises as `Store.get`."""
    entry = await store.get(keys.deletion(*document))
    if entry is None:
        return None, 0
    try:
        found = msgspec.json.decode(entry.value, type=Deletion)
    except msgspec.DecodeError:
        return None, entry.version
    return (found.verdict if found.version >= version else None), entry.version


def _stamp(now: float) -> str:
    return datetime.fromtimestamp(now, UTC).isoformat(timespec="seconds").replace("+00:00", "Z")


def newest_first(entries: Iterable[Entry]) -> list[tuple[int, bytes]]:
    """(doc_version, text) of a listing; what cannot be read is left out."""
    found: list[tuple[int, bytes]] = []
    for entry in entries:
        version = entry.key.rpartition("/")[2]
        with contextlib.suppress(msgspec.DecodeError, ValueError):
            found.append((int(version), msgspec.json.decode(entry.value, type=Past).text.encode()))
    return sorted(found, reverse=True)


def prefix(kind: str, name: str) -> str:
    return keys.history(kind, name, 0)[:-1]


class Recorder:
    """The registry role's part: `accepted` takes in documents, `run` writes what nobody wrote."""

    def __init__(self, store: Store, log: Log, now: Callable[[], float]) -> None:
        self._store = store
        self._log = log
        self._now = now
        self._waiting: asyncio.Queue[Document] = asyncio.Queue()
        self._known: dict[tuple[str, str], int] = {}

    def accepted(self, documents: Iterable[Document]) -> None:
        for document in documents:
            name = (document.kind, document.name)
            if self._known.get(name) != document.version:
                self._known[name] = document.version
                self._waiting.put_nowait(document)

    async def run(self) -> None:
        while True:
            document = await self._waiting.get()
            await asyncio.sleep(LATER)
            try:
                await write(self._store, document, UNKNOWN, self._now())
            except RegistryError as error:
                self._log.warning("history cannot be written", document=document.name, error=str(error))
