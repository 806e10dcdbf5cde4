"""The saved snapshot of this host: written while the registry speaks, loaded when a start finds it silent.

`DataDir/snapshot`, signed (`registry.snapshot`). It is written a few seconds after the fold changed, off the event
loop, and now and then without a change, so that its age says how long the registry has been away and not how long
nothing happened.
"""

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import msgspec

from policies.parse import parse
from policies.schema.mesh import Mesh
from registry import snapshot
from registry.ca.files import Layout
from registry.errors import Corrupt, Denied, NotFound, RegistryError
from registry.snapshot import Snapshot

WRITE_EVERY = 3.0  # seconds between two writes at the least
LATER = 0.1  # seconds after a change: what is captured must not hold up what is pushed to the proxy
SHARE = 20.0  # the pause as a multiple of what the last write took: 5 % of a core at most
REFRESH = 300.0  # seconds after which an unchanged snapshot is written again while the registry speaks
MAX_AGE = 7 * 86400.0  # seconds: as long as a service's certificate lives

Word = Literal["none", "saved", "serving", "refused", "too old"]


class Log(Protocol):
    def info(self, event: str, **fields: object) -> None: ...

    def warning(self, event: str, **fields: object) -> None: ...

    def error(self, event: str, **fields: object) -> None: ...


class State(msgspec.Struct, frozen=True):
    """`heard`: Unix seconds at which the registry last spoke before the snapshot was taken; 0: there is none.

    `serving`: what is in force comes from it; `refused` and `too old`: it is not used, `reason` says why.
    """

    word: Word = "none"
    heard: float = 0.0
    reason: str = ""


class ColdStart:
    """`capture` gives what is to be saved, None while the registry is not listed. `now` is Unix time.

    `old`: what to do with a snapshot older than `MaxSnapshotAge` of the mesh's document in it.
    """

    def __init__(
        self,
        layout: Layout,
        old: Literal["serve", "deny"],
        capture: Callable[[], Snapshot | None],
        log: Log,
        now: Callable[[], float],
    ) -> None:
        self._layout = layout
        self._path: Path = layout.data_dir / "snapshot"
        self._old = old
        self._capture = capture
        self._log = log
        self._now = now
        self._dirty = asyncio.Event()
        self._writing = asyncio.Lock()
        self._closed = False
        self.state = State()
        self.problem = ""  # why the last write failed; empty: it did not

    def changed(self) -> None:
        """The fold moved."""
        self._dirty.set()

    async def run(self) -> None:
        """Write when something changed, for ever."""
        clock = asyncio.get_running_loop().time
        while True:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(REFRESH):
                    await self._dirty.wait()
                await asyncio.sleep(LATER)
            began = clock()
            await self.flush()
            await asyncio.sleep(max(WRITE_EVERY, SHARE * (clock() - began)))

    async def flush(self) -> None:
        """Write now what there is to save."""
        self._dirty.clear()
        found = self._capture()
        if found is None or self._closed:
            return
        try:
            async with self._writing:
                await asyncio.to_thread(snapshot.write, self._path, found, self._layout)
        except RegistryError as error:
            if not self.problem:
                self._log.error("snapshot cannot be saved", error=str(error))
            self.problem = str(error)
            return
        self.problem = ""
        self.state = State("saved", found.heard)

    async def close(self) -> None:
        """This host is about to leave: save once more, and nothing of what leaving changes."""
        await self.flush()
        self._closed = True

    async def load(self) -> Snapshot | None:
        """The snapshot on disk, if it may be used; `state` says why not."""
        try:
            found = await asyncio.to_thread(snapshot.read, self._path, self._layout)
        except NotFound:
            self._log.warning("no snapshot to start from", path=str(self._path))
            return None
        except (Corrupt, Denied) as error:
            self.state = State("refused", reason=str(error))
            self._log.error("snapshot refused", reason=str(error))
            return None
        except RegistryError as error:
            self.state = State("refused", reason=str(error))
            self._log.error("snapshot cannot be read", reason=str(error))
            return None
        age, most = max(0.0, self._now() - found.heard), max_age(found)
        if age > most and self._old == "deny":
            reason = f"{age:.0f} s old, {most:.0f} s at most (MaxSnapshotAge), and Registry.OldSnapshot is deny"
            self.state = State("too old", found.heard, reason)
            self._log.error("snapshot is too old", reason=reason)
            return None
        reason = f"older than MaxSnapshotAge ({most:.0f} s)" if age > most else ""
        self.state = State("serving", found.heard, reason)
        self._log.warning("registry silent; serving from the snapshot", age=round(age, 1), index=found.index,
                          instances=len(found.instances), documents=len(found.documents), note=reason)  # fmt: skip
        return found


def max_age(found: Snapshot) -> float:
    """`Registry{MaxSnapshotAge}` of the mesh document in the snapshot, in seconds."""
    for one in found.documents:
        if one.kind == Mesh.kind:
            document = parse(one.kind, one.name, one.text, version=one.version).document
            if isinstance(document, Mesh) and document.registry.max_snapshot_age_ms is not None:
                return document.registry.max_snapshot_age_ms / 1000
    return MAX_AGE
