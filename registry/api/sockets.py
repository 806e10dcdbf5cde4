"""What the kernel knows of the other end of a socket: uid and groups of a local caller.

Unix sockets: SO_PEERCRED and SO_PEERGROUPS (unix(7), socket(7)). Loopback TCP: one exact query to sock_diag(7),
microseconds however many connections the host has; reading /proc/net/tcp takes milliseconds with many.
"""

import socket
import struct
from collections.abc import Sequence
from dataclasses import dataclass

SO_PEERGROUPS = 59  # asm-generic/socket.h; not in Python's socket module
MAX_GROUPS = 256  # what fits into the 1024 bytes that getsockopt of Python returns at most
SOCK_DIAG_BY_FAMILY = 20  # linux/sock_diag.h
NLM_F_REQUEST = 1
NETLINK_SOCK_DIAG = 4
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, pid
UID_AT = HEADER.size + 4 + 48 + 12  # inet_diag_msg: family..retrans, id, expires, rqueue, wqueue, then uid
ALL_STATES = 0xFFFFFFFF
NO_COOKIE = b"\xff" * 8


@dataclass(frozen=True)
class Peer:
    """Who is on the other end of a unix socket, at the moment it connected."""

    uid: int
    gids: frozenset[int]


def unix_peer(sock: socket.socket) -> Peer:
    """Raises OSError for a socket that is not a connected unix socket."""
    _pid, uid, gid = struct.unpack("3i", sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    raw = sock.getsockopt(socket.SOL_SOCKET, SO_PEERGROUPS, 4 * MAX_GROUPS)
    return Peer(uid, frozenset((gid, *struct.unpack(f"{len(raw) // 4}I", raw))))


def tcp_uid(caller: Sequence[object], here: Sequence[object]) -> int | None:
    """The uid of the local process whose socket is `caller` connected to `here` (address, port, ...), or None.

    None also when the caller is on another host, or gone: then nobody can say who asked.
    """
    family = socket.AF_INET6 if ":" in str(caller[0]) else socket.AF_INET
    request = _request(family, (str(caller[0]), int(str(caller[1]))), (str(here[0]), int(str(here[1]))))
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_SOCK_DIAG) as netlink:
        netlink.settimeout(0.2)  # the kernel answers within the call; this only bounds a broken one
        try:
            netlink.sendto(request, (0, 0))
            answer = netlink.recv(4096)
        except OSError:
            return None
    if len(answer) < UID_AT + 4 or HEADER.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY:
        return None  # NLMSG_ERROR: no such socket on this host
    return int(struct.unpack_from("=I", answer, UID_AT)[0])


def _request(family: int, caller: tuple[str, int], here: tuple[str, int]) -> bytes:
    ports = struct.pack("!HH", caller[1], here[1])
    addresses = b"".join(socket.inet_pton(family, end[0].partition("%")[0]).ljust(16, b"\0") for end in (caller, here))
    sock_id = ports + addresses + struct.pack("=I", 0) + NO_COOKIE
    body = struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ALL_STATES) + sock_id
    return HEADER.pack(HEADER.size + len(body), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 1, 0) + body
