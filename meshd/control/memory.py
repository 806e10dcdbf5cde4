"""What a host must not forget when it restarts while the registry is away: revocations, who was meshed and how.

Forgetting a revocation would let a stolen key back in; forgetting that a service had mTLS would let whoever writes
to the registry talk a caller into plaintext.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Literal

import msgspec

from meshd.control.registrations import replace


class Remembered(msgspec.Struct, frozen=True):
    """`revocations`: stored values by id; `meshed`: services once seen with a meshed instance; `spoken`: protocols
    as last registered, by service."""

    revocations: dict[str, bytes] = {}
    meshed: frozenset[str] = frozenset()
    spoken: dict[str, Literal["tcp", "http"]] = {}


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

    def save(
        self,
        revocations: Mapping[str, bytes],
        meshed: frozenset[str],
        spoken: Mapping[str, Literal["tcp", "http"]] = MappingProxyType({}),
    ) -> bool:
        """Write what changed; False: nothing did. Raises Unavailable. Blocks: call it off the event loop."""
        wanted = Remembered(dict(revocations), meshed, dict(spoken))
        if wanted == self.remembered:
            return False
        replace(self._path, msgspec.json.encode(wanted, order="sorted"))
        self.remembered = wanted
        return True
