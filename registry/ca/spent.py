"""Join tokens that this authority has seen used, on its own disk.

The store's record `ca/tokens/used/<id>` is what all authorities share; this one is what a writer of the store cannot
delete. A mark is a file named by the token's id whose modification time is the token's end; past ends are removed.
"""

import os
from pathlib import Path

from registry.ca.files import sync_directory
from registry.errors import Conflict, Unavailable


def use(folder: Path, token_id: str, expires: float, now: float) -> None:
    """Mark a token as used, durably. Raises Conflict if it is, Unavailable if the disk does not take it.

    `token_id` comes from a verified token: 32 hex digits, so no path. Times are Unix seconds. Blocking.
    """
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        _remove_past(folder, now)
        descriptor = _create(folder / token_id)
        try:
            os.utime(descriptor, (expires, expires))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        sync_directory(folder)
    except OSError as error:
        raise Unavailable(f"{folder} cannot be written: {error.strerror}") from error


def _create(path: Path) -> int:
    try:
        return os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except FileExistsError as error:
        raise Conflict(f"token {path.name} was used before") from error


def _remove_past(folder: Path, now: float) -> None:
    for path in folder.iterdir():
        if path.stat().st_mtime < now:
            path.unlink(missing_ok=True)
