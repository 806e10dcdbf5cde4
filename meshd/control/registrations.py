"""What was registered on this host, on disk: a restart with the registry down keeps every instance.

`DataDir/registrations.json`, replaced atomically. A file that cannot be read is set aside, never overwritten: the
registrations in it belong to somebody.
"""

import os
from pathlib import Path

import msgspec

from registry.errors import Unavailable
from registry.model import Instance, InstanceKey


class Local(msgspec.Struct, frozen=True, kw_only=True):
    """A local instance. `app` is the address that our proxy dials (the instance's `address` is for other hosts)."""

    instance: Instance
    app: str
    uid: int | None = None
    configured: bool = False  # from `Services` of the host's configuration: follows the file, not the API


class Saved(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`withdrawals`: deregistered, but the registry does not know it yet; `leaving`: the registry may still have it."""

    local: tuple[Local, ...] = ()
    withdrawals: tuple[InstanceKey, ...] = ()
    leaving: tuple[InstanceKey, ...] = ()


class File:
    """Loads and saves `Saved`. `problem` says why a file was set aside, empty: it was not."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.problem = ""

    def load(self) -> Saved:
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=Saved)
        except FileNotFoundError:
            return Saved()
        except (msgspec.DecodeError, OSError) as error:
            aside = self._path.with_name(self._path.name + ".unreadable")
            self.problem = f"{self._path}: {error}; set aside as {aside.name}"
            self._path.replace(aside)
            return Saved()

    def save(self, saved: Saved) -> None:
        """Raises Unavailable when the disk refuses."""
        replace(self._path, msgspec.json.format(msgspec.json.encode(saved)))


def replace(path: Path, data: bytes) -> None:
    """Atomic and durable: after a crash there is the old file or the new one. Mode 0600. Raises Unavailable."""
    waiting = path.with_name(f".{path.name}.{os.getpid()}.new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(waiting, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        waiting.replace(path)
    except OSError as error:
        raise Unavailable(f"{path}: {error.strerror or error}") from error
