"""Telling systemd that we are ready (sd_notify(3)); a no-op where nobody asked."""

import socket
from collections.abc import Mapping


def notify(environ: Mapping[str, str], state: str) -> None:
    """`state` like `READY=1` or `STOPPING=1`. Never raises: a supervisor that went away must not stop us."""
    path = environ.get("NOTIFY_SOCKET", "")
    if not path:
        return
    address = "\0" + path[1:] if path.startswith("@") else path
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            sock.connect(address)
            sock.send(state.encode())
    except OSError:
        pass
