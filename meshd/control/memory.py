"""What a host must not forget when it restarts: revocations, who was meshed and how, and which store is its own.

Forgetting a revocation would let a stolen key back in; forgetting that a service had mTLS would let whoever writes
to the registry talk a caller into plaintext; forgetting the store's id would let a wiped one pass for ours.
"""

from pathlib import Path
from typing import Literal

import msgspec

from meshd.control.registrations import replace


class Remembered(msgspec.Struct, frozen=True):
    """`revocations`: stored values by id; `meshed`: services once seen with a meshed instance; `spoken`: protocols
    as last registered, by service; `store_id`: of the store that this host belongs to."""

    revocations: dict[str, bytes] = {}
    meshed: frozenset[str] = frozenset()
    spoken: dict[str, Literal["tcp", "http"]] = {}
    store_id: str = ""


class Memory:
    """A file below DataDir. `load` never raises: what cannot be read is reported in `problem`."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.remembered = Remembered()
        self.problem = ""

    def load(self) -> Remembered:
        try:
            self.remembered = msgspec.json.decode(self._path.read_bytes(), type=Remembered)
        except FileNotFoundError:
            pass
        except (msgspec.DecodeError, OSError) as error:
            self.problem = f"{self._path}: {error}"
        return self.remembered

    def save(self, wanted: Remembered) -> bool:
        """Write what changed; False: nothing did. Raises Unavailable. Blocks: call it off the event loop."""
        if wanted == self.remembered:
            return False
        replace(self._path, msgspec.json.encode(wanted, order="sorted"))
        self.remembered = wanted
        return True
