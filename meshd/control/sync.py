"""From the registry to the proxy: events -> fold -> documents -> compile -> difference.

The first event after a pause is applied at once; what follows soon is compiled together, after 20 ms at the latest,
sooner where compiling is cheap. Until every watch has listed once nothing is compiled: a fresh meshd must not erase a
good configuration. When the registry is silent at a start, the saved snapshot takes its place; without one only a proxy
that holds nothing at all gets what else is known from disk.
"""

import asyncio
import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from meshd.control import history
from meshd.control.cold_start import ColdStart
from meshd.control.compilation import Compilation
from meshd.control.documents import Documents, Name
from meshd.control.gate import Gate
from meshd.control.identity import Identities
from meshd.control.lease import Lease
from meshd.control.memory import Memory, Remembered
from meshd.control.register import Registrar
from meshd.control.subscriptions import Subscriptions
from meshd.dataplane.client import Dataplane
from policies.schema.kinds import AnyDocument
from policies.schema.mesh import Mesh
from registry import keys
from registry.brake import MAX_REMOVAL_PERCENT, WINDOW, Limits
from registry.change import Change, Verdict
from registry.errors import RegistryError
from registry.flap import HALF_LIFE
from registry.fold import Fold
from registry.store import Alive, Batch, Entry, Lost, Resync, Store, WatchEvent
from registry.store_id import base
from registry.watch import Watcher

MERGE = 0.02  # seconds: the longest that an event waits for others to be compiled with it
SHARE = 4.0  # the wait as a multiple of what compiling took last: a burst costs a fifth of a core at most
SOON = 0.05  # seconds that the disk waits for the proxy: what is written must not hold up what is pushed
PATIENCE = 3.0  # seconds without the registry before a start goes on with what the disk knows


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


@dataclass(frozen=True)
class Parts:
    """What a Sync joins together."""

    fold: Fold
    watcher: Watcher
    store: Store
    registrar: Registrar
    identities: Identities
    documents: Documents
    dataplane: Dataplane
    lease: Lease
    memory: Memory
    cold_start: ColdStart
    compilation: Compilation
    subscriptions: Subscriptions


class Sync:
    """Owns the fold and when it is compiled. `clock` is monotonic."""

    def __init__(self, parts: Parts, log: Log, clock: Callable[[], float]) -> None:
        self._parts = parts
        self._log = log
        self._clock = clock
        self._dirty = asyncio.Event()
        self._save = asyncio.Event()
        self._look_up: asyncio.Queue[Name] = asyncio.Queue()
        self._started = clock()
        self._gate = Gate()
        self._cold = True  # nobody has looked for a saved snapshot yet
        self._compiled_at = clock() - MERGE
        self._merge = MERGE
        self.index = 0
        self.on_trust: Callable[[], None] = lambda: None
        self.on_contact: Callable[[], None] = lambda: None
        self.on_event: Callable[[str, WatchEvent], None] = lambda prefix, event: None

    def load(self) -> None:
        """What was known before a restart, until the registry says otherwise."""
        remembered = self._parts.memory.load()
        if self._parts.memory.problem:
            self._log.error("memory lost", problem=self._parts.memory.problem)
        compilation = self._parts.compilation
        compilation.meshed, compilation.spoken = remembered.meshed, remembered.spoken
        compilation.on_learnt = self._save.set
        self._parts.fold.pinned = remembered.store_id
        self._parts.identities.learn({}, remembered.revocations)

    def poke(self) -> None:
        """Something of this host changed: instances, certificates, or the proxy was attached."""
        self._parts.subscriptions.moved()
        self._dirty.set()

    # ---- events in --------------------------------------------------------------------------------------------------

    async def follow(self) -> None:
        """Take in the watcher's events, for ever."""
        fold, events = self._parts.fold, self._parts.watcher.events
        self._subscribe()
        while True:
            due = earliest(self._gate.deadline(), fold.next_settled())
            ready = self._gate.overdue(self._clock())
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(None if due is None else max(0.0, due - self._clock())):
                    prefix, event = await events.get()
                    if prefix in fold.unreachable and _in_contact(event):
                        self.on_contact()  # now, not when the gate opens: the watch of the id may be in a pause
                    ready += self._gate.admit(prefix, event, self._clock())
            for one in ready:
                self._take(*one)
            self._moved(fold.settle(self._clock()))
            if self._dirty.is_set() and self._pause() <= 0 and self._may_compile() and not self._silent():
                self._compile()  # here and now: `run` would have its turn after everybody else whom the event woke

    def _take(self, prefix: str, event: WatchEvent) -> None:
        parts = self._parts
        before = bool(parts.fold.unreachable), parts.fold.complete
        listed = len(parts.fold.listed)
        if prefix in parts.fold.unreachable and _in_contact(event):
            self.on_contact()
        change = parts.fold.apply(prefix, event, self._clock())
        if isinstance(event, Batch | Resync | Alive):
            self.index = max(self.index, event.index)
        self._own(prefix, event)
        self._say(before)
        if change.store:
            self._store()
        self._moved(change)
        if len(parts.fold.listed) != listed or before[0] != bool(parts.fold.unreachable):
            self._dirty.set()
            parts.cold_start.changed()
        self.on_event(prefix, event)

    def explained(self, verdicts: Mapping[Name, Verdict]) -> None:
        """What is to be made of documents that the store has lost."""
        self._moved(self._parts.fold.explain(verdicts, self._clock()))

    def _moved(self, change: Change) -> None:
        parts = self._parts
        parts.compilation.moved(change)
        if change.documents:
            self._documents()
        if change.trust:
            self._save.set()
            if parts.identities.learn(parts.fold.roots, self._revocations()):
                self.on_trust()
        if change:
            self._dirty.set()
            parts.cold_start.changed()

    def _revocations(self) -> Mapping[str, bytes]:
        """Until they are listed, those remembered too: an event about a root must not forget them."""
        fold = self._parts.fold
        remembered = self._parts.memory.remembered.revocations
        return fold.revocations if keys.REVOCATIONS in fold.listed else {**remembered, **fold.revocations}

    def _own(self, prefix: str, event: WatchEvent) -> None:
        """What the registry holds of this host itself."""
        parts, stored = self._parts, self._parts.compilation.stored
        if prefix.startswith(keys.SERVICES) and stored.apply(prefix, event) and stored.instances is not None:
            parts.registrar.seen(stored.instances)
            self._dirty.set()
        listed = prefix == keys.LEASES and isinstance(event, Batch | Resync)
        if listed and parts.lease.id is not None and parts.compilation.node not in parts.fold.leases:
            parts.lease.lost()

    def _store(self) -> None:
        """The store's id moved: remember ours, and say when it is another's."""
        fold = self._parts.fold
        if fold.foreign:
            self._log.error("the store is in doubt; nothing is let go of until `meshctl registry adopt`",
                            reason=fold.foreign, known=fold.pinned, found=fold.store_id)  # fmt: skip
        else:
            self._log.info("store", id=fold.pinned)
        self._save.set()

    def adopt(self, store_id: str, index: int) -> None:
        """An operator adopted the store: here at once, elsewhere when the watch shows it."""
        fold = self._parts.fold
        fold.pinned = fold.pinned or base(store_id)  # or it would be the first id seen, and no adoption
        entry = Entry(key=keys.STORE_ID, value=store_id.encode(), version=index, created=index)
        self._take(keys.STORE_ID, Batch(index, (entry,)))

    def _documents(self) -> None:
        documents = self._parts.documents
        for name in sorted(documents.update(self._parts.fold.documents)):
            refused = documents.rejected.get(name)
            if refused is not None:
                self._log.error("document refused; the last good version stays", document="/".join(name),
                                version=refused.version, problems=refused.problems)  # fmt: skip
            if name in documents.unreadable:
                self._look_up.put_nowait(name)
        self._parts.fold.limits, self._parts.fold.half_life = limits(documents.good), half_life(documents.good)
        self._save.set()
        self._parts.subscriptions.moved()
        self._subscribe()

    def _subscribe(self) -> None:
        """Follow what documents and this host's instances ask for now; nothing is lost of what stays in force."""
        self._moved(self._parts.subscriptions.refresh())

    def _say(self, before: tuple[bool, bool]) -> None:
        lost, complete = before
        fold = self._parts.fold
        if bool(fold.unreachable) != lost:
            if fold.unreachable:
                self._log.warning("registry lost; the last state stays", reason=next(iter(fold.unreachable.values())))
            else:
                self._log.info("registry answers", index=self.index)
        if fold.complete and not complete:
            self._log.info("registry listed", services=len(fold.services), documents=len(fold.documents))

    # ---- compile ----------------------------------------------------------------------------------------------------

    async def run(self) -> None:
        """Compile whenever something moved, for ever."""
        while True:
            if not await self._wait():
                continue
            self._subscribe()
            if self._pause() > 0:
                await asyncio.sleep(self._pause())
            if self._silent():
                await self._restore()
            self._compile()

    def _pause(self) -> float:
        """Seconds for which an event waits for others to be compiled with it."""
        return self._compiled_at + self._merge - self._clock()

    def _compile(self) -> None:
        """What has moved until now, if it may be compiled."""
        self._dirty.clear()
        self._parts.compilation.moved(self._parts.fold.expire(self._clock()))
        self._subscribe()
        if self._may_compile():
            began = self._compiled_at = self._clock()
            self._parts.compilation.compile()
            self._merge = min(MERGE, SHARE * (self._clock() - began))

    async def _wait(self) -> bool:
        """Until something moved, a suspect's time is over, or an empty proxy has waited long enough. False: what moved
        is compiled already."""
        now = self._clock()
        deadlines = [self._parts.fold.next_deadline(now), self._parts.subscriptions.next_deadline()]
        if not self._parts.subscriptions.begun:
            deadlines.append(self._started + PATIENCE if self._cold else now + PATIENCE / 3)
        known = [deadline for deadline in deadlines if deadline is not None]
        try:
            async with asyncio.timeout(max(0.0, min(known) - now) if known else None):
                await self._dirty.wait()
        except TimeoutError:
            return True
        return self._dirty.is_set()

    def _silent(self) -> bool:
        """The registry has not listed everything in time, or not as ours, and nobody has asked for the snapshot."""
        fold = self._parts.fold
        waited = self._clock() - self._started >= PATIENCE
        begun = self._parts.subscriptions.begun or fold.complete
        return self._cold and (bool(fold.foreign) if begun else waited)

    async def _restore(self) -> None:
        """Put the saved snapshot in the place of a registry that is silent."""
        self._cold = False
        parts = self._parts
        found = await parts.cold_start.load()
        if found is None:
            return
        restored = parts.fold.restore(found.entries(), found.vanished, self._clock(), found.followed)
        parts.compilation.moved(restored)
        self.index = max(self.index, found.index)
        self._documents()
        parts.subscriptions.begun = True  # what the snapshot does not know is held back, service by service
        if parts.identities.learn(parts.fold.roots, self._revocations()):
            self.on_trust()

    def _may_compile(self) -> bool:
        subscriptions = self._parts.subscriptions
        subscriptions.begun = subscriptions.begun or self._parts.fold.usable
        if subscriptions.begun:
            return True
        link = self._parts.dataplane.link
        waited = self._clock() - self._started >= PATIENCE
        return waited and bool(self._parts.fold.unreachable) and link is not None and not link.hello.holds

    # ---- beside -----------------------------------------------------------------------------------------------------

    async def keep(self) -> None:
        """Write to disk what a restart needs when it changed, off the event loop."""
        while True:
            await self._save.wait()
            await asyncio.sleep(SOON)
            self._save.clear()
            try:
                if self._parts.compilation.heard_documents:  # before that it would forget what the disk remembers
                    await asyncio.to_thread(self._parts.documents.save)
                found, revocations = self._parts.compilation, dict(self._revocations())
                remembered = Remembered(revocations, found.meshed, dict(found.spoken), self._parts.fold.pinned)
                await asyncio.to_thread(self._parts.memory.save, remembered)
            except RegistryError as error:
                self._log.error("state cannot be kept on disk", error=str(error))
            await asyncio.sleep(1.0)

    async def recover(self) -> None:
        """Look up refused documents without a good version in the history."""
        while True:
            kind, name = await self._look_up.get()
            try:
                listing = await self._parts.store.list(history.prefix(kind, name))
            except RegistryError as error:
                self._log.warning("history cannot be read", document=f"{kind}/{name}", error=str(error))
                continue
            if self._parts.documents.from_history((kind, name), listing.entries):
                self._log.warning("an older version is in force", document=f"{kind}/{name}")
                self._save.set()
                self._dirty.set()
            else:
                self._log.error("no valid version is known", document=f"{kind}/{name}")


def _in_contact(event: WatchEvent) -> bool:
    return not isinstance(event, Lost) and not event.lacking


def limits(documents: Mapping[Name, AnyDocument]) -> Limits:
    """`Registry{MaxRemovalPercent, Window}` of the mesh document."""
    mesh = documents.get((Mesh.kind, Mesh.kind))
    if not isinstance(mesh, Mesh):
        return Limits()
    percent, window = mesh.registry.max_removal, mesh.registry.window_ms
    return Limits(
        percent=MAX_REMOVAL_PERCENT if percent is None else percent / 100,
        window=WINDOW if window is None else window / 1000,
    )


def half_life(documents: Mapping[Name, AnyDocument]) -> float:
    """`Registry{FlapHalfLife}` of the mesh document, in seconds."""
    mesh = documents.get((Mesh.kind, Mesh.kind))
    found = mesh.registry.flap_half_life_ms if isinstance(mesh, Mesh) else None
    return HALF_LIFE if found is None else found / 1000


def earliest(*deadlines: float | None) -> float | None:
    return min((one for one in deadlines if one is not None), default=None)


__all__ = ["Change", "Parts", "Sync"]
