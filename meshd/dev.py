"""`meshd dev`: a mesh of one host in one process tree, without configuration. Open to every local user, and says so.

State lies in `~/.local/share/meshd-dev` (XDG_DATA_HOME), sockets in `$XDG_RUNTIME_DIR/meshd-dev` or beside it; a
second `meshd dev` finds the authority and the registry of the first.
"""

import os
import sys
from pathlib import Path

from meshd.config import Host
from meshd.placed import ConfigError, Fault
from registry.ca.files import Layout
from registry.ca.init import First, init
from registry.errors import RegistryError


def home() -> Path:
    """Where the state of `meshd dev` lies."""
    base = os.environ.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(base) / "meshd-dev"


def run_dir() -> Path:
    base = os.environ.get("XDG_RUNTIME_DIR")
    return Path(base) / "meshd-dev" if base else home() / "run"


def settings() -> list[str]:
    """What `meshd dev` sets before the environment's and the command's own settings."""
    return [
        "Node=dev",
        f"DataDir={home() / 'data'}",
        f"RunDir={run_dir()}",
        "Roles=[registry, ca]",
        "Development=true",
        "Advertise.Address=127.0.0.1",
        "Bind.Inbound=127.0.0.1",
        "Bind.Peer=127.0.0.1",
    ]


def prepare(host: Host, now: float) -> Host:
    """Make the authority on the first start, and say what this is. Raises ConfigError."""
    layout = Layout(host.data)
    try:
        if not layout.store_id.exists():
            init(host.data, First(host.node), now)
    except RegistryError as error:
        raise ConfigError(Fault(str(host.data), str(error))) from error
    api = f"http://{host.loopback}:{host.ports.api}"
    print(
        f"meshd dev: a mesh of one host, state in {host.data}\n"
        "meshd dev: OPEN ACCESS - every local user may register services and change policy; not for production\n"
        f"meshd dev: API {api}, export MESHD_API={api} for meshctl; Ctrl-C ends it",
        file=sys.stderr,
    )
    return host
