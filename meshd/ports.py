"""One meshd per RunDir and one listener per port: taken means refused, with the holder's name, never shared.

The proxy's listeners use SO_REUSEPORT (a thread each), which would silently share a port with a stranger's; so every
port is bound once without it before the real listener is made.
"""

import errno
import fcntl
import ipaddress
import os
import socket
import struct
from collections.abc import Iterator
from pathlib import Path

from meshd.placed import ConfigError, Fault

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
LISTEN = "0A"  # TCP_LISTEN in /proc/net/tcp (include/net/tcp_states.h)


class Lock:
    """`<RunDir>/lock`, held as long as this object lives; the kernel lets go of it when the process ends."""

    def __init__(self, run_dir: Path) -> None:
        """Raises ConfigError when another meshd holds it or the directory cannot be used."""
        path = run_dir / "lock"
        try:
            run_dir.mkdir(parents=True, exist_ok=True, mode=0o755)
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise ConfigError(Fault("RunDir", f"{path}: {error.strerror}")) from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            pid = os.read(self._file, 32).decode("ascii", "replace").strip()
            os.close(self._file)
            raise ConfigError(
                Fault("RunDir", f"{path} is held by another meshd (pid {pid or 'unknown'})", "one meshd per RunDir")
            ) from None
        os.ftruncate(self._file, 0)
        os.pwrite(self._file, f"{os.getpid()}\n".encode(), 0)

    def close(self) -> None:
        os.close(self._file)


def listen(setting: str, address: str, port: int) -> socket.socket:
    """A listening TCP socket of our own. Raises ConfigError naming the setting and who holds the port."""
    sock = _bound(setting, address, port)
    sock.listen(1024)
    sock.setblocking(False)
    return sock


def check(setting: str, address: str, port: int) -> None:
    """Bind once without SO_REUSEPORT and let go: the port is free for who listens there next. Raises ConfigError."""
    _bound(setting, address, port).close()


def _bound(setting: str, address: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    sock = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    # Without this a port whose last connections are in TIME_WAIT counts as taken; it shares nothing that listens.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        sock.bind((address, port))
    except OSError as error:
        sock.close()
        raise ConfigError(Fault(setting, _why(error, address, port), _hint(error))) from None
    return sock


def _why(error: OSError, address: str, port: int) -> str:
    if error.errno != errno.EADDRINUSE:
        return f"cannot listen on {address}:{port}: {error.strerror}"
    name = holder(address, port)
    return f"{address}:{port} is taken" + (f" by {name}" if name else "")


def _hint(error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return "end it, or choose another port"
    return "no such address on this host?" if error.errno == errno.EADDRNOTAVAIL else ""


def holder(address: str, port: int, proc: Path = Path("/proc")) -> str:
    """`name (pid N)` of who listens there, as far as /proc tells us; "" when it does not."""
    tables = [proc / "net" / table for table in ("tcp", "tcp6")]
    inodes = {f"socket:[{inode}]" for table in tables for inode in _listening(table, address, port)}
    if not inodes:
        return ""
    for entry in proc.iterdir():
        if entry.name.isdigit() and not inodes.isdisjoint(_open_files(entry / "fd")):
            try:
                name = (entry / "comm").read_text().strip()
            except OSError:
                continue
            return f"{name} (pid {entry.name})"
    return ""


def addresses(port: int, proc: Path = Path("/proc")) -> frozenset[str]:
    """At which addresses this host listens on a TCP port, whoever does."""
    return frozenset(str(at) for table in ("tcp", "tcp6") for at, _ in _rows(proc / "net" / table, port))


def _listening(table: Path, address: str, port: int) -> Iterator[str]:
    """Inodes of sockets that listen on the port at this address or at all."""
    return (inode for at, inode in _rows(table, port) if _meet(at, ipaddress.ip_address(address)))


def _rows(table: Path, port: int) -> Iterator[tuple[Address, str]]:
    """Address and inode of every socket that listens on the port.

    Columns: sl local rem st tx:rx tr:when retrnsmt uid timeout inode (proc(5)).
    """
    try:
        lines = table.read_text().splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        where, _, number = fields[1].rpartition(":")
        if fields[3] == LISTEN and int(number, 16) == port:
            yield _address(where), fields[9]


def _address(words: str) -> Address:
    """An address as the kernel prints it: 32-bit words in its own byte order."""
    raw = b"".join(struct.pack("=I", int(words[at : at + 8], 16)) for at in range(0, len(words), 8))
    found = ipaddress.ip_address(raw)
    return getattr(found, "ipv4_mapped", None) or found


def _meet(one: Address, other: Address) -> bool:
    """Whether listeners at both are in each other's way; a wildcard meets everything, on [::] also IPv4."""
    return one == other or one.is_unspecified or other.is_unspecified


def _open_files(folder: Path) -> Iterator[str]:
    try:
        for entry in folder.iterdir():
            yield os.readlink(entry)
    except OSError:
        return  # another user's process, or one that ended
