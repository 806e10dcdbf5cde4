"""Where tests find the programs that are not ours: consul, etcd (two versions of each), etcdctl, nginx, dockerd ...

`make tools` puts them there. A missing one is a skip that is shown; in CI (`CI=true`) it is a failure, so that a
machine without a tool cannot pass by testing less.
"""

import os
import shutil
import sys
from pathlib import Path
from typing import NoReturn

import pytest

ROOT = Path(__file__).resolve().parent.parent

# Private unpacked packages first (they are the version that was tested), then the system's; sbin and Go's own place
# are often not in PATH. The interpreter's own directory holds what is installed with us, whether or not it is in PATH.
PLACES = (ROOT / ".cache/tools/usr/bin", ROOT / ".cache/tools/usr/sbin", Path(sys.executable).parent)
SYSTEM = ("/usr/sbin", "/usr/local/sbin", "/sbin", "/usr/local/go/bin")


def find(name: str) -> Path | None:
    """The program's path, or None when this machine does not have it."""
    places = [*map(str, PLACES), os.environ.get("PATH", os.defpath), *SYSTEM]
    found = shutil.which(name, path=os.pathsep.join(places))
    return Path(found) if found else None


def tool(name: str) -> Path:
    """The program's path; without it the calling test is skipped, or fails when `CI=true`."""
    found = find(name)
    return found if found is not None else missing(name)


def package(name: str) -> Path:
    """A Python package that has a directory of its own below `.cache`; without it as `tool`."""
    found = ROOT / ".cache" / name
    return found if (found / ".made-from").exists() else missing(name)


def missing(name: str) -> NoReturn:
    reason = f"{name} is missing on this machine (`make tools` gets what it knows)"
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)
